"""What benchmarks of training share: networks in ONNX's text form, and steps of descent on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from encoders.contract.presets import IEEE_ANY
from onnx_import import load
from onnx_import.graph import Array
from refine.gradients.derived import serialised
from refine.gradients.request import Request
from refine.traces.recording import Opening, Read, Runs, fed_by_name, reading, record, runs_of
from refine.traces.trace import Trace


def parsed(text: str, stored: Mapping[str, Any]) -> onnx.ModelProto:
    """The model of a text with these weights and constants; nodes are named after what they
    write."""
    made: onnx.ModelProto = parser.parse_model(text)
    for node in made.graph.node:
        node.name = node.output[0]
    made.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), n) for n, v in stored.items()
    )
    return made


@dataclass(frozen=True)
class Descent:
    """The file of a step, how its graph is read, and what each run of it is given."""

    path: Path
    read: Read
    runs: Runs

    def recorded(self, opened: Opening, *, keep: bool) -> Trace:
        """Its tensors on a runtime, with their numbers if they are to be kept.

        Raises ModelError where the runtime is not here.
        """
        return record(self.path, self.read, opened, self.runs, keep=keep)


def descent(
    folder: Path,
    model: onnx.ModelProto,
    weights: Iterable[str],
    given: Mapping[str, Array],
    *,
    loss: str,
    rate: float,
    steps: int,
) -> Descent:
    """So many steps on a loss of output y, as `refine grad --step sgd` writes them, in an empty
    folder. Given are inputs and target, with an axis in front where each step has its own."""
    onnx.save(model, folder / "net.onnx")
    request = Request(loss=loss, wrt=",".join(weights), step="sgd", rate=rate, of="y", keep=True)
    path = folder / "step.onnx"
    path.write_bytes(serialised(request.gradient_of(load(folder / "net.onnx")), "step"))
    (folder / "with").mkdir()
    whole = load(path)
    runs = runs_of(whole, given, fed_by_name(whole), steps)
    return Descent(path, reading(path, folder / "with", (IEEE_ANY,)), runs)
