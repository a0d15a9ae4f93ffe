"""Pairs of models, before and after a step of a tool, made by the tools themselves.

It runs in an environment of its own, of which `toolchain_environment.sh` installs pinned versions,
and imports nothing of this project:

    sh benchmarks/toolchain_environment.sh /tmp/venv-tools
    /tmp/venv-tools/bin/python benchmarks/toolchain_pairs.py FOLDER

Writes the models, the middle of each model's domain and `pairs.json`: of each pair `name`, `spec`,
`impl`, `centre`, `radius`, `kind` (`rewrite`, `half`, `int8`), and of those that were broken after
the step the `culprit`, a tensor that the broken node writes.
"""

from __future__ import annotations

import copy
import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import inliner, numpy_helper, version_converter
from torch import nn

RADIUS, SMALLER = 0.01, 0.001
POINTS, CLEARLY = 3, 1e-3  # at which a broken model gives other results, by more than that
Values = np.ndarray[Any, np.dtype[Any]]
TRANSFORMERS = ("encoder", "vit")


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.a = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.last = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = torch.relu(x + self.b(self.a(x)))
        return self.last(x.mean(dim=(2, 3)))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = (y.reshape(n, t, self.heads, d // self.heads).transpose(1, 2) for y in (q, k, v))
        scores = torch.softmax(q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5, dim=-1)
        x = x + self.out((scores @ v).transpose(1, 2).reshape(n, t, d))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.norm, self.head = Attention(16, 2), nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.block(x)).mean(dim=1))


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16) / 4)
        self.place = nn.Parameter(torch.randn(1, 10, 16) / 4)
        self.block, self.norm, self.head = Attention(16, 4), nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.place
        return self.head(self.norm(self.block(x))[:, 0])


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def models() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Seeded networks in evaluation mode, and the shape of their input."""
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))
    cnn = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(8, 5)),
    )
    found: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        "mlp": (mlp, (1, 8)),
        "cnn": (cnn, (1, 1, 12, 12)),
        "residual": (Residual(), (1, 1, 8, 8)),
        "encoder": (Encoder(), (1, 6, 16)),
        "vit": (ViT(), (1, 1, 12, 12)),
        "lstm": (Recurrent(), (1, 5, 4)),
    }
    for module, _ in found.values():
        module.eval()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.uniform_(-0.3, 0.3)
                part.running_var.uniform_(0.5, 2.0)
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.uniform_(part.bias, -0.3, 0.3)
    return found


Step = Callable[[Path, Path], None]


def saving(make: Callable[[onnx.ModelProto], onnx.ModelProto]) -> Step:
    def step(before: Path, after: Path) -> None:
        onnx.save(make(onnx.load(before)), after)

    return step


def optimised(level: str) -> Step:
    def step(before: Path, after: Path) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.optimized_model_filepath = str(after)
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        ort.InferenceSession(str(before), options, providers=["CPUExecutionProvider"])

    return step


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxsim

    return onnxsim.simplify(model)[0]


def _slimmed(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxslim

    return onnxslim.slim(model)


def _passes(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxoptimizer

    return onnxoptimizer.optimize(model)


def _scripted(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxscript.optimizer

    return onnxscript.optimizer.optimize(model)


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxconverter_common import float16

    return float16.convert_float_to_float16(model, keep_io_types=True)


def _dynamic(before: Path, after: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(before), str(after))


def _transformers(before: Path, after: Path) -> None:
    from onnxruntime.transformers import optimizer

    made = optimizer.optimize_model(
        str(before), model_type="bert", num_heads=2, hidden_size=16, opt_level=0
    )
    made.save_model_to_file(str(after))


STEPS: dict[str, Step] = {
    "onnxsim": saving(_simplified),
    "onnxslim": saving(_slimmed),
    "onnxoptimizer": saving(_passes),
    "onnxscript": saving(_scripted),
    "ort-basic": optimised("ORT_ENABLE_BASIC"),
    "ort-extended": optimised("ORT_ENABLE_EXTENDED"),
    "ort-all": optimised("ORT_ENABLE_ALL"),
    "to-opset-20": saving(lambda m: version_converter.convert_version(m, 20)),
    "to-opset-14": saving(lambda m: version_converter.convert_version(m, 14)),
    "inliner": saving(inliner.inline_local_functions),
    "float16": saving(_half),
    "int8-dynamic": _dynamic,
    "transformers": _transformers,
}
KINDS = {"float16": "half", "int8-dynamic": "int8"}


def exported(folder: Path) -> dict[str, dict[str, Path]]:
    """Files by model and exporter."""
    made: dict[str, dict[str, Path]] = {}
    for name, (module, shape) in models().items():
        x = torch.rand(shape)
        np.save(folder / f"{name}.npy", x.numpy())
        ways: dict[str, dict[str, Any]] = {
            "raw": {"dynamo": False, "do_constant_folding": False},
            "script": {"dynamo": False},
            "dynamo": {"dynamo": True},
        }
        for way, options in ways.items():
            path = folder / f"{name}-{way}.onnx"
            version = 17 if way != "dynamo" else 18
            training = torch.onnx.TrainingMode.PRESERVE if way == "raw" else None
            more = {} if training is None else {"training": training}
            try:
                torch.onnx.export(
                    module,
                    (x,),
                    str(path),
                    input_names=["x"],
                    output_names=["y"],
                    opset_version=version,
                    **options,
                    **more,
                )
                onnx.save(onnx.load(path), path)  # weights inside the file
                made.setdefault(name, {})[way] = path
            except Exception as error:  # what an exporter cannot do is no pair
                print(f"{name} {way}: {type(error).__name__}: {str(error)[:100]}")
    return made | {"sklearn": _pipeline(folder)}


def _pipeline(folder: Path) -> dict[str, Path]:
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)).astype(np.float32)
    y = np.sin(x[:, 0]) + x[:, 1] * x[:, 2]
    model = make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(12, 8), max_iter=300, random_state=0)
    )
    model.fit(x, y)
    path = folder / "sklearn-raw.onnx"
    onnx.save(to_onnx(model, x[:1], target_opset=17), path)
    np.save(folder / "sklearn.npy", x[:1])
    return {"raw": path}


@dataclass(frozen=True)
class Break:
    """A model of which one node was changed for good, a tensor that it writes, and what of it."""

    model: onnx.ModelProto
    culprit: str
    what: str


Change = Callable[[onnx.NodeProto, dict[str, onnx.TensorProto], np.random.Generator], bool]


def broken(
    model: onnx.ModelProto,
    centre: Values,
    radius: float,
    rng: np.random.Generator,
    seen: Counter[str],
) -> Iterator[Break]:
    """Two nodes changed, each in a model of its own: in ways that were `seen` least so far, and
    such that the model still runs and gives other results in the ball."""
    shifts = (rng.uniform(-radius, radius, centre.shape) for _ in range(POINTS))
    inputs = [(centre + shift).astype(np.float32) for shift in shifts]
    before = _results(model, inputs)
    found = 0
    for what in sorted(CHANGES, key=lambda w: seen[w]):
        for at in rng.permutation(len(model.graph.node)):
            made = copy.deepcopy(model)
            stored = {t.name: t for t in made.graph.initializer}
            node = made.graph.node[at]
            if not CHANGES[what](node, stored, rng):
                continue
            after = _results(made, inputs)
            if before is None or (after is not None and _differ(before, after)):
                seen[what] += 1
                found += 1
                yield Break(made, node.output[0], what)
                break
        if found == 2:
            return


def _results(model: onnx.ModelProto, inputs: list[Values]) -> list[Values] | None:
    """What onnxruntime makes of inputs; None where it does not run the model."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (given,) = session.get_inputs()
        return [np.asarray(session.run(None, {given.name: x})[0]) for x in inputs]
    except Exception:  # whatever says that this is no model
        return None


def _differ(before: list[Values], after: list[Values]) -> bool:
    if any(a.shape != b.shape for a, b in zip(before, after, strict=True)):
        return False
    return max(float(np.max(np.abs(a - b))) for a, b in zip(before, after, strict=True)) > CLEARLY


def _operator(
    node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], rng: np.random.Generator
) -> bool:
    others = {
        **{"Relu": "Abs", "Tanh": "Sigmoid", "Sub": "Add", "Sigmoid": "Tanh", "Erf": "Tanh"},
        **{"Add": "Sub", "MaxPool": "AveragePool", "GlobalAveragePool": "GlobalMaxPool"},
        **{"ReduceMean": "ReduceMax", "Sqrt": "Abs", "Mul": "Add"},
    }
    if node.op_type not in others:
        return False
    node.op_type = others[node.op_type]
    return True


def _epsilon(
    node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], rng: np.random.Generator
) -> bool:
    for attribute in node.attribute:
        if attribute.name == "epsilon":
            attribute.f = 0.1
            return True
    return False


def _axis(
    node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], rng: np.random.Generator
) -> bool:
    for attribute in node.attribute:
        if attribute.name == "axis":
            attribute.i = attribute.i - 1 if attribute.i else 1
            return True
        if attribute.name == "axes" and len(attribute.ints) == 1:
            attribute.ints[0] = attribute.ints[0] - 1 if attribute.ints[0] else 1
            return True
    return False


def _pads(
    node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], rng: np.random.Generator
) -> bool:
    """Of as many rows in all, one more of them on the other side."""
    for attribute in node.attribute:
        if attribute.name == "pads" and attribute.ints[0]:
            attribute.ints[0] -= 1
            attribute.ints[len(attribute.ints) // 2] += 1
            return True
    return False


def _permutation(
    node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], rng: np.random.Generator
) -> bool:
    for attribute in node.attribute:
        if attribute.name == "perm":
            a, b = rng.permutation(len(attribute.ints))[:2].tolist()
            attribute.ints[a], attribute.ints[b] = attribute.ints[b], attribute.ints[a]
            return True
    return False


def _scale(
    node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], rng: np.random.Generator
) -> bool:
    """All numbers of one stored operand, a little larger."""
    for name in node.input:
        if name in stored and node.op_type in ("Mul", "Div", "Conv", "Gemm", "MatMul"):
            return _moved(stored[name], lambda flat: flat * np.float32(1.05))
    return False


def _constant(
    node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], rng: np.random.Generator
) -> bool:
    """One number of a stored operand."""
    kinds = ("Conv", "Gemm", "MatMul", "Add", "Mul", "Clip", "BatchNormalization", "LSTM")
    if node.op_type not in (*kinds, "LayerNormalization"):
        return False

    def changed(flat: Values) -> Values:
        flat[rng.integers(0, flat.size)] += 0.5 + np.max(np.abs(flat)) / 2
        return flat

    return any(_moved(stored[t], changed) for t in list(node.input)[::-1] if t in stored)


def _moved(tensor: onnx.TensorProto, change: Callable[[Values], Values]) -> bool:
    values = numpy_helper.to_array(tensor).copy()
    if values.dtype != np.float32 or not values.size:
        return False
    made = change(values.reshape(-1)).reshape(values.shape).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(made, tensor.name))
    return True


CHANGES: dict[str, Change] = {
    "operator": _operator,
    "epsilon": _epsilon,
    "axis": _axis,
    "pads": _pads,
    "permutation": _permutation,
    "scale": _scale,
    "constant": _constant,
}


def main(folder: Path) -> None:
    """Makes all pairs that these tools can."""
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    seen: Counter[str] = Counter()

    def row(name: str, spec: Path, impl: Path, model: str, kind: str, culprit: str = "") -> None:
        rows.append(
            {
                "name": name,
                "spec": spec.name,
                "impl": impl.name,
                "centre": f"{model}.npy",
                "radius": SMALLER if model in TRANSFORMERS else RADIUS,
                "kind": kind,
                **({"culprit": culprit} if culprit else {}),
            }
        )

    for model, ways in exported(folder).items():
        first = ways.get("raw") or ways.get("script") or ways["dynamo"]
        for way, path in ways.items():
            if path != first:
                row(f"{model}: {way}", first, path, model, "rewrite")
        sources = [first] + [p for w, p in ways.items() if w == "dynamo" and p != first]
        for source in sources:
            for tool, step in STEPS.items():
                if (source != first and tool in KINDS) or (tool == "transformers") > (
                    model in ("encoder",)
                ):
                    continue
                after = folder / f"{source.stem}--{tool}.onnx"
                try:
                    step(source, after)
                    made = onnx.load(after)
                except Exception as error:  # what a tool cannot do is no pair
                    print(f"{source.stem} {tool}: {type(error).__name__}: {str(error)[:100]}")
                    continue
                kind = KINDS.get(tool, "rewrite")
                row(f"{source.stem}: {tool}", source, after, model, kind)
                if kind != "rewrite":
                    continue
                centre = np.load(folder / f"{model}.npy")
                for found in broken(made, centre, rows[-1]["radius"], rng, seen):
                    wrong = folder / f"{after.stem}--{found.what}.onnx"
                    onnx.save(found.model, wrong)
                    name = f"{source.stem}: {tool}, broken {found.what}"
                    row(name, source, wrong, model, "broken", found.culprit)
    (folder / "pairs.json").write_text(json.dumps(rows, indent=1) + "\n")
    counts = {k: sum(r["kind"] == k for r in rows) for k in ("rewrite", "half", "int8", "broken")}
    print(counts, dict(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
