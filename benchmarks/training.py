"""Nine networks trained for two steps: refine grad's graph beside torch.autograd and jax.grad.

    python benchmarks/training.py [--only NAME…] [--save FILE]

Of the loss, every gradient and the new weights after each of two steps of descent: how far
onnxruntime on the graph that `refine grad --step sgd` writes is from the libraries on the same
network, weights and batch, and the bound proved of two executions of that graph, each from the
weights that its side had. The largest quotient of all elements is shown; above 1 is outside.
Torch and JAX differentiate by themselves; what is not installed is left out and said.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from descent import descent, parsed
from measuring import save
from rich.console import Console
from rich.table import Table

from encoders.contract.presets import IEEE_ANY
from onnx_import.graph import Array
from refine.options.runtime_choice import machine, runtime_choice
from refine.traces.comparing import joint_bounds
from refine.traces.recording import NEXT

RATE, STEPS = 0.0625, 2
Arrays = Mapping[str, Array]
Forward = Callable[[Any, Any, Mapping[str, Any]], Any]
"""Library, input, weights → output, as people write it there."""


@dataclass(frozen=True)
class Case:
    """A network: its graph in ONNX's text form, the shapes of x and y and of its weights, and the
    same in a library."""

    body: str
    x: tuple[int, ...]
    y: tuple[int, ...]
    weights: Mapping[str, tuple[int, ...]]
    forward: Forward
    constants: Mapping[str, Any] = field(default_factory=dict)


class Torch:
    """The calls that the networks need, of torch."""

    def __init__(self) -> None:
        self.torch = import_module("torch")
        self.torch.set_num_threads(1)
        self.title = f"torch {self.torch.__version__}"
        self.relu, self.sigmoid = self.torch.relu, self.torch.sigmoid

    def softmax(self, x: Any) -> Any:
        return self.torch.softmax(x, dim=-1)

    def conv(self, x: Any, w: Any, groups: int = 1) -> Any:
        return self.torch.nn.functional.conv2d(x, w, padding=1, groups=groups)

    def norm(self, x: Any, scale: Any, shift: Any) -> Any:
        return self.torch.nn.functional.batch_norm(x, None, None, scale, shift, True, 0.0, 1e-5)

    def pool(self, x: Any) -> Any:
        return self.torch.nn.functional.max_pool2d(x, 2)

    def pixels(self, x: Any) -> Any:
        return self.torch.mean(x, dim=(2, 3))

    def steps(self, forward: Forward, x: Array, target: Array, weights: Arrays) -> Iterator[Arrays]:
        """Loss, gradients and new weights, step after step."""
        torch = self.torch
        held = {n: torch.tensor(v, requires_grad=True) for n, v in weights.items()}
        for _ in range(STEPS):
            y = forward(self, torch.tensor(x), held)
            loss = torch.mean((y - torch.tensor(target)) ** 2)
            slopes = torch.autograd.grad(loss, list(held.values()))
            moved = {
                n: (v - RATE * g).detach().requires_grad_()
                for (n, v), g in zip(held.items(), slopes, strict=True)
            }
            yield {
                "loss": loss.detach().numpy(),
                **{f"grad_{n}": g.numpy() for n, g in zip(held, slopes, strict=True)},
                **{f"{NEXT}{n}": v.detach().numpy() for n, v in moved.items()},
            }
            held = moved


class Jax:
    """The same of jax, whose step is compiled as a whole."""

    def __init__(self) -> None:
        self.jax, self.numpy = import_module("jax"), import_module("jax.numpy")
        self.title = f"jax {self.jax.__version__}"
        self.relu, self.sigmoid = self.jax.nn.relu, self.jax.nn.sigmoid

    def softmax(self, x: Any) -> Any:
        return self.jax.nn.softmax(x, axis=-1)

    def conv(self, x: Any, w: Any, groups: int = 1) -> Any:
        return self.jax.lax.conv_general_dilated(
            x, w, (1, 1), ((1, 1), (1, 1)), feature_group_count=groups
        )

    def norm(self, x: Any, scale: Any, shift: Any) -> Any:
        mean = self.numpy.mean(x, axis=(0, 2, 3), keepdims=True)
        variance = self.numpy.var(x, axis=(0, 2, 3), keepdims=True)
        normal = (x - mean) / self.numpy.sqrt(variance + 1e-5)
        return normal * scale[:, None, None] + shift[:, None, None]

    def pool(self, x: Any) -> Any:
        two = (1, 1, 2, 2)
        return self.jax.lax.reduce_window(x, -np.inf, self.jax.lax.max, two, two, "VALID")

    def pixels(self, x: Any) -> Any:
        return self.numpy.mean(x, axis=(2, 3))

    def steps(self, forward: Forward, x: Array, target: Array, weights: Arrays) -> Iterator[Arrays]:
        """Loss, gradients and new weights, step after step."""

        def loss_of(held: Mapping[str, Any]) -> Any:
            return self.numpy.mean((forward(self, x, held) - target) ** 2)

        both = self.jax.jit(self.jax.value_and_grad(loss_of))
        held = {n: self.numpy.asarray(v) for n, v in weights.items()}
        for _ in range(STEPS):
            loss, slopes = both(held)
            held = {n: v - np.float32(RATE) * slopes[n] for n, v in held.items()}
            yield {
                "loss": np.asarray(loss),
                **{f"grad_{n}": np.asarray(g) for n, g in slopes.items()},
                **{f"{NEXT}{n}": np.asarray(v) for n, v in held.items()},
            }


def dense(lib: Any, x: Any, w: Mapping[str, Any]) -> Any:
    return x @ w["W"] + w["b"]


def dense_relu(lib: Any, x: Any, w: Mapping[str, Any]) -> Any:
    return lib.relu(x @ w["W1"] + w["b"]) @ w["W2"]


def conv(lib: Any, x: Any, w: Mapping[str, Any]) -> Any:
    return lib.conv(x, w["K"]) + w["b"][:, None, None]


def conv_norm(lib: Any, x: Any, w: Mapping[str, Any]) -> Any:
    return lib.relu(lib.norm(lib.conv(x, w["K"]), w["scale"], w["shift"]))


def conv_pool(lib: Any, x: Any, w: Mapping[str, Any]) -> Any:
    return lib.pool(lib.relu(lib.conv(x, w["K"]))) + w["b"]


def residual(lib: Any, x: Any, w: Mapping[str, Any]) -> Any:
    return x + lib.conv(lib.relu(lib.conv(x, w["K1"])), w["K2"])


def depthwise(lib: Any, x: Any, w: Mapping[str, Any]) -> Any:
    return lib.relu(lib.conv(x, w["K"], groups=4)) + w["b"]


def squeeze(lib: Any, x: Any, w: Mapping[str, Any]) -> Any:
    h = lib.conv(x, w["K"])
    gate = lib.sigmoid(lib.relu(lib.pixels(h) @ w["W1"]) @ w["W2"])
    return h * gate[:, :, None, None]


def attention(lib: Any, x: Any, w: Mapping[str, Any]) -> Any:
    q, k, v = (x @ w[name] for name in ("Q", "K", "V"))
    return lib.softmax(q @ k.T * 0.5) @ v


IMAGE = (2, 4, 6, 6)
CASES: dict[str, Case] = {
    "dense": Case(
        "h = MatMul(x, W) y = Add(h, b)", (4, 8), (4, 3), {"W": (8, 3), "b": (3,)}, dense
    ),
    "dense + ReLU": Case(
        "h = MatMul(x, W1) a = Add(h, b) r = Relu(a) y = MatMul(r, W2)",
        (4, 8),
        (4, 3),
        {"W1": (8, 16), "b": (16,), "W2": (16, 3)},
        dense_relu,
    ),
    "conv": Case(
        "y = Conv <pads = [1, 1, 1, 1]> (x, K, b)",
        IMAGE,
        (2, 6, 6, 6),
        {"K": (6, 4, 3, 3), "b": (6,)},
        conv,
    ),
    "conv + BatchNorm": Case(
        """
        h = Conv <pads = [1, 1, 1, 1]> (x, K)
        n, running_mean, running_variance =
            BatchNormalization <training_mode = 1, epsilon = 0.00001> (h, scale, shift, zeros, ones)
        y = Relu(n)
        """,
        IMAGE,
        (2, 6, 6, 6),
        {"K": (6, 4, 3, 3), "scale": (6,), "shift": (6,)},
        conv_norm,
        {"zeros": np.zeros(6, np.float32), "ones": np.ones(6, np.float32)},
    ),
    "conv + max-pool": Case(
        """
        h = Conv <pads = [1, 1, 1, 1]> (x, K)
        r = Relu(h)
        p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
        y = Add(p, b)
        """,
        IMAGE,
        (2, 6, 3, 3),
        {"K": (6, 4, 3, 3), "b": (6, 1, 1)},
        conv_pool,
    ),
    "residual": Case(
        """
        h = Conv <pads = [1, 1, 1, 1]> (x, K1)
        r = Relu(h)
        c = Conv <pads = [1, 1, 1, 1]> (r, K2)
        y = Add(x, c)
        """,
        IMAGE,
        IMAGE,
        {"K1": (4, 4, 3, 3), "K2": (4, 4, 3, 3)},
        residual,
    ),
    "depthwise conv": Case(
        """
        h = Conv <pads = [1, 1, 1, 1], group = 4> (x, K)
        r = Relu(h)
        y = Add(r, b)
        """,
        IMAGE,
        IMAGE,
        {"K": (4, 1, 3, 3), "b": (4, 1, 1)},
        depthwise,
    ),
    "squeeze and excite": Case(
        """
        h = Conv <pads = [1, 1, 1, 1]> (x, K)
        s = ReduceMean <keepdims = 0> (h, pixels)
        d = MatMul(s, W1)
        r = Relu(d)
        e = MatMul(r, W2)
        g = Sigmoid(e)
        gate = Reshape(g, shape)
        y = Mul(h, gate)
        """,
        IMAGE,
        (2, 6, 6, 6),
        {"K": (6, 4, 3, 3), "W1": (6, 3), "W2": (3, 6)},
        squeeze,
        {"pixels": np.array([2, 3]), "shape": np.array([2, 6, 1, 1])},
    ),
    "attention": Case(
        """
        q = MatMul(x, Q)
        k = MatMul(x, K)
        v = MatMul(x, V)
        kt = Transpose <perm = [1, 0]> (k)
        raw = MatMul(q, kt)
        scores = Mul(raw, half)
        p = Softmax <axis = 1> (scores)
        y = MatMul(p, v)
        """,
        (5, 8),
        (5, 4),
        {"Q": (8, 4), "K": (8, 4), "V": (8, 4)},
        attention,
        {"half": np.float32(0.5)},
    ),
}


def model(case: Case, weights: Arrays) -> onnx.ModelProto:
    """The network as an ONNX model."""

    def size(shape: Sequence[int]) -> str:
        return f"float[{','.join(map(str, shape))}]"

    text = (
        f'<ir_version: 8, opset_import: ["": 18]> net ({size(case.x)} x) => ({size(case.y)} y) '
        f"{{ {case.body} }}"
    )
    return parsed(text, {**weights, **case.constants})


def measured(name: str, case: Case, libraries: Sequence[Any]) -> list[dict[str, Any]]:
    """A row for each library and step."""
    rng = np.random.default_rng(len(name))
    weights = {
        n: rng.normal(0, np.sqrt(2 / max(np.prod(s[1:], dtype=int), 2)), s).astype(np.float32)
        for n, s in case.weights.items()
    }
    given: Arrays = {
        "x": rng.normal(0, 1, case.x).astype(np.float32),
        "target": rng.normal(0, 1, case.y).astype(np.float32),
    }
    with TemporaryDirectory() as place:
        made = descent(
            Path(place), model(case, weights), weights, given, loss="mse", rate=RATE, steps=STEPS
        )
        trace = made.recorded(partial(machine, runtime_choice("onnxruntime")), keep=True)
        rows = []
        for library in libraries:
            held = weights
            stepping = library.steps(case.forward, given["x"], given["target"], weights)
            for k, found in enumerate(stepping):
                ours = {t: np.asarray(e.values) for t, e in trace.of(k).items()}
                starts = {**given, **{n: ours[n] for n in weights}}, {**given, **held}
                graphs = made.read(starts[0]), made.read(starts[1])
                joint = joint_bounds(graphs, starts, (IEEE_ANY, IEEE_ANY))
                rows.append(
                    {"case": name, "library": library.title, "step": k + 1}
                    | compared(ours, found, joint)
                )
                held = {n: found[f"{NEXT}{n}"] for n in weights}
    return rows


def compared(ours: Arrays, theirs: Arrays, joint: Mapping[str, Any]) -> dict[str, Any]:
    """The largest differences and bounds, and the tensor that takes the most of its bound."""
    apart: dict[str, float] = {}
    bound: dict[str, float] = {}
    share: dict[str, float] = {}
    for t, values in theirs.items():
        off = np.abs(np.float64(ours[t].reshape(values.shape)) - np.float64(values))
        allowed = joint[t].reshape(values.shape)
        apart[t], bound[t] = float(np.max(off)), float(np.max(allowed))
        with np.errstate(all="ignore"):
            share[t] = float(np.max(np.where(off == 0, 0.0, off / allowed)))
    worst = max(share, key=lambda t: share[t])
    return {
        "gradient_apart": max(v for t, v in apart.items() if t.startswith("grad_")),
        "gradient_bound": max(v for t, v in bound.items() if t.startswith("grad_")),
        "weight_apart": max(v for t, v in apart.items() if t.startswith(NEXT)),
        "weight_bound": max(v for t, v in bound.items() if t.startswith(NEXT)),
        "share": share[worst],
        "tensor": worst,
    }


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    given.add_argument("--save", type=Path)
    asked = given.parse_args()
    libraries: list[Any] = []
    for make in (Torch, Jax):
        try:
            libraries.append(make())
        except ImportError as error:
            Console().print(f"left out: {error}")
    rows = []
    for name in asked.only:
        rows += measured(name, CASES[name], libraries)
    table = Table(title="onnxruntime on refine grad's step beside a library's own, and the bound")
    for title in ("case", "library", "step", "gradients", "bound", "weights", "bound", "share"):
        table.add_column(title, justify="left" if title in ("case", "library") else "right")
    for row in rows:
        numbers = ("gradient_apart", "gradient_bound", "weight_apart", "weight_bound")
        table.add_row(
            row["case"],
            row["library"],
            str(row["step"]),
            *(f"{row[n]:.2e}" for n in numbers),
            f"{100 * row['share']:.1f} %",
        )
    Console(width=120).print(table)
    inside = all(row["share"] <= 1 for row in rows)
    Console().print(f"within the bound: {'all' if inside else 'NOT all'} of {len(rows)} rows")
    if asked.save is not None:
        save(asked.save, rows)


if __name__ == "__main__":
    main()
