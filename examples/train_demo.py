"""Train the demo's network with numpy alone and write `demo/pendulum.onnx`.

A 2-64-64-1 ReLU network learns the saturated feedback law of an inverted pendulum: from angle
(rad) and angular rate (rad/s) to torque (N·m). The same seed gives the same network, up to the
order in which numpy's matrix product adds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

FloatArray: TypeAlias = npt.NDArray[np.float64]
Layer: TypeAlias = tuple[FloatArray, FloatArray]

WIDTHS = (2, 64, 64, 1)
STEPS = 2000
BATCH = 256


def expert(state: FloatArray) -> FloatArray:
    """Torque that holds the pendulum upright, at most 2 N·m; state (n, 2), result (n, 1)."""
    angle, rate = state[:, :1], state[:, 1:]
    return np.clip(-4.0 * np.sin(angle) - 1.5 * rate, -2.0, 2.0)


def train(rng: np.random.Generator) -> list[Layer]:
    """Weights (outputs, inputs) and biases of each layer, fitted by Adam on mean square error."""
    layers = [
        (rng.normal(0.0, np.sqrt(2.0 / fan_in), (fan_out, fan_in)), np.zeros(fan_out))
        for fan_in, fan_out in pairwise(WIDTHS)
    ]
    parameters = [array for layer in layers for array in layer]
    first = [np.zeros_like(array) for array in parameters]
    second = [np.zeros_like(array) for array in parameters]
    for step in range(1, STEPS + 1):
        state = rng.uniform(-1.0, 1.0, (BATCH, WIDTHS[0]))
        rate = 3e-3 * (1.0 - step / (STEPS + 1))
        for k, gradient in enumerate(gradients(layers, state, expert(state))):
            first[k] += 0.1 * (gradient - first[k])
            second[k] += 0.001 * (gradient**2 - second[k])
            direction = first[k] / (1 - 0.9**step)
            scale = np.sqrt(second[k] / (1 - 0.999**step)) + 1e-8
            parameters[k] -= rate * direction / scale
    return layers


def forward(layers: Sequence[Layer], state: FloatArray) -> list[FloatArray]:
    """The input of each layer, then the output."""
    values = [state]
    for position, (weight, bias) in enumerate(layers):
        linear = values[-1] @ weight.T + bias
        values.append(linear if position == len(layers) - 1 else np.maximum(linear, 0.0))
    return values


def gradients(
    layers: Sequence[Layer], state: FloatArray, target: FloatArray
) -> Iterator[FloatArray]:
    """Gradients of the mean square error, in the order weight, bias, weight, bias, …"""
    values = forward(layers, state)
    flow = 2.0 * (values[-1] - target) / len(state)
    found: list[FloatArray] = []
    for position in reversed(range(len(layers))):
        found += [flow.sum(axis=0), flow.T @ values[position]]
        flow = (flow @ layers[position][0]) * (values[position] > 0.0)
    return reversed(found)


def export(layers: Sequence[Layer], path: Path) -> None:
    """Write the layers as float32 Gemm and Relu nodes, opset 17."""
    nodes, constants, tensor = [], [], "state"
    for number, (weight, bias) in enumerate(layers, start=1):
        constants += [
            numpy_helper.from_array(weight.astype(np.float32), f"weight{number}"),
            numpy_helper.from_array(bias.astype(np.float32), f"bias{number}"),
        ]
        last = number == len(layers)
        linear = "torque" if last else f"linear{number}"
        operands = [tensor, f"weight{number}", f"bias{number}"]
        nodes.append(helper.make_node("Gemm", operands, [linear], f"gemm{number}", transB=1))
        if not last:
            tensor = f"hidden{number}"
            nodes.append(helper.make_node("Relu", [linear], [tensor], f"relu{number}"))
    graph = helper.make_graph(
        nodes,
        "pendulum",
        [helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, WIDTHS[0]])],
        [helper.make_tensor_value_info("torque", TensorProto.FLOAT, [1, WIDTHS[-1]])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "demo" / "pendulum.onnx"
    )
    arguments = parser.parse_args()
    layers = train(np.random.default_rng(arguments.seed))
    state = np.random.default_rng(arguments.seed + 1).uniform(-1.0, 1.0, (10_000, WIDTHS[0]))
    misfit = np.abs(forward(layers, state)[-1] - expert(state))
    print(f"seed {arguments.seed}: mean misfit {misfit.mean():.2e}, largest {misfit.max():.2e} N·m")
    export(layers, arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
