"""What the zoo's graphs are built with, and the script that builds them.

`python examples/zoo/building.py [NAME…]` writes `right.onnx` and `wrong.onnx` of these entries, or
of all. Each entry's `build.py` binds both graphs to `RIGHT` and `WRONG`.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper, parser

ZOO = Path(__file__).resolve().parent
SIDES = ("right", "wrong")


def network(
    signature: str, body: str, opset: int = 17, **weights: npt.ArrayLike
) -> onnx.ModelProto:
    """A graph in ONNX's text form: `(float[1,2] x) => (float[1,2] y)` and its nodes.

    Each node is named after its first output. Weights are float32 unless they are arrays that say
    otherwise; integers are int64.
    """
    header = f'<ir_version: 8, opset_import: ["": {opset}]>'
    model: onnx.ModelProto = parser.parse_model(f"{header} zoo {signature} {{ {body} }}")
    for node in model.graph.node:
        node.name = node.output[0]
    for name, values in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(_stored(values), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def _stored(values: npt.ArrayLike) -> npt.NDArray[Any]:
    array = np.asarray(values)
    plain = not isinstance(values, np.ndarray | np.generic) and array.dtype == np.float64
    return array.astype(np.float32) if plain else array


def script(name: str) -> dict[str, Any]:
    """What the script of an entry binds."""
    if str(ZOO) not in sys.path:
        sys.path.insert(0, str(ZOO))
    return runpy.run_path(str(ZOO / name / "build.py"))


def built(name: str) -> dict[str, onnx.ModelProto]:
    """Both graphs of an entry, by side, as its script builds them."""
    return {side: script(name)[side.upper()] for side in SIDES}


def main(names: list[str]) -> None:
    for name in names or sorted(p.parent.name for p in ZOO.glob("*/build.py")):
        for side, model in built(name).items():
            onnx.save(model, ZOO / name / f"{side}.onnx")


if __name__ == "__main__":
    main(sys.argv[1:])
