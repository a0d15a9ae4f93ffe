"""Stored numbers that onnxruntime would not read, and that are not read here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx_import import load
from onnx_import.errors import ModelError


def _adding(path: Path, stored: onnx.TensorProto) -> Path:
    kind = stored.data_type
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, [2])],
        [helper.make_tensor_value_info("y", kind, [2])],
        [stored],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


@pytest.mark.parametrize("written", ["0", "4", " 0", "0_0", "+0", "٠"])
def test_places_in_other_files_are_plain_digits(written: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.arange(3, dtype=np.float32).tobytes())
    stored = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    stored.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", written), ("length", "8")):
        stored.external_data.add(key=key, value=value)
    path = _adding(tmp_path / "m.onnx", stored)
    if written in ("0", "4"):
        first = int(written) // 4
        assert list(load(path).constants["w"]) == [first, first + 1]
        return
    with pytest.raises(ModelError, match=r"offset .* of its external data is no number"):
        load(path)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
@pytest.mark.parametrize("bits", [0x3C00, 0x13C00, -1])
def test_sixteen_bits_are_stored_in_sixteen(kind: int, bits: int, tmp_path: Path) -> None:
    stored = TensorProto(name="w", data_type=kind, dims=[2], int32_data=[bits, 0])
    path = _adding(tmp_path / "m.onnx", stored)
    if bits == 0x3C00:
        assert float(load(path).constants["w"][1]) == 0.0
        return
    with pytest.raises(ModelError, match="16 bits is stored in more"):
        load(path)
