"""A model under construction: nodes one after the other, and what they read of the file."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper


class Building:
    """Tensors are named as they come: `t0`, `t1`, … are computed, `k0`, `k1`, … stored."""

    nodes: list[onnx.NodeProto]
    stored: dict[str, Any]

    def add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n_{name}", **attributes))
        return name

    def keep(self, values: Any) -> str:
        name = f"k{len(self.stored)}"
        self.stored[name] = values
        return name
