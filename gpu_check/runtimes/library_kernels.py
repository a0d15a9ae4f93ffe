"""numpy and PyTorch as runtimes: ONNX operators as the calls that people write for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from encoders.contract.presets import SEQUENTIAL
from encoders.families.pooling import reduced_axes
from encoders.families.windows import window_of
from encoders.operator import Site
from encoders.program import Step, forward, program_of, step_of
from gpu_check.emulator.emulator import emulate_step
from gpu_check.runtimes.kernels import Run
from gpu_check.runtimes.runtimes import LibraryOptions, RuntimeUnavailable
from onnx_import.graph import Array, Graph, Node

Call: TypeAlias = Callable[[Site, Sequence[Any]], Any]

_PLAIN = LibraryOptions()
_TORCH = {
    **{
        op: op.lower() for op in ("Abs", "Add", "Atan", "Ceil", "Cos", "Div", "Erf", "Exp", "Floor")
    },
    **{op: op.lower() for op in ("Log", "Mul", "Neg", "Relu", "Round", "Sigmoid", "Sign", "Sin")},
    **{op: op.lower() for op in ("Sqrt", "Sub", "Tanh")},
    "Max": "maximum",
    "Min": "minimum",
}  # ONNX's operators, and torch's functions of the same arguments


@dataclass(frozen=True)
class Library:
    """A library's name and version, how it takes and gives arrays, its calls by operator, and what
    sets it up before a call."""

    title: str
    takes: Callable[[Array], Any]
    gives: Callable[[Any], Array]
    calls: Mapping[str, Call]
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class LibraryKernels:
    """Nodes of one graph as calls of a library, which sees no weights as constant."""

    graph: Graph
    library: Library
    varying: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()

    def describe(self) -> str:
        return self.library.title

    def on(self, graph: Graph) -> LibraryKernels:
        return replace(self, graph=graph)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Run:
        call = self.library.calls.get(node.op)
        if call is None:
            raise RuntimeUnavailable(f"{self.library.title} has no {node.op} here")
        site = step_of(self.graph, node).holding(constants).site

        def run(inputs: Mapping[str, Array]) -> Array:
            self.library.prepare()
            given = {**constants, **inputs}
            arguments = [self.library.takes(given[t]) if t else None for t in node.inputs]
            return self.library.gives(call(site, arguments)).reshape(site.outputs[0].shape)

        return run


@dataclass(frozen=True)
class LibraryMachine:
    """A whole graph on a library, node after node; data movement is the emulator's."""

    graph: Graph
    kernels: LibraryKernels

    def describe(self) -> str:
        return self.kernels.describe()

    def tensors(self, samples: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
        values = {t: np.stack([s[t] for s in samples]) for t in self.graph.inputs}

        def run(step: Step, values: Mapping[str, Array]) -> Sequence[Array]:
            if step.operator.movement:
                return emulate_step(step, values, SEQUENTIAL)
            call = self.kernels.kernel(step.node, step.constants)
            each = ({t: values[t][k] for t in step.reads} for k in range(len(samples)))
            return (np.stack([call(read) for read in each]),)

        return forward(program_of(self.graph), values, run)


def numpy_library() -> Library:
    """numpy, as installed here."""
    calls: dict[str, Call] = {
        "MatMul": lambda site, a: np.matmul(a[0], a[1]),
        "Gemm": _gemm(np.matmul),
        "ReduceSum": lambda site, a: np.sum(a[0], axis=reduced_axes(site)),
        "ReduceMean": lambda site, a: np.mean(a[0], axis=reduced_axes(site)),
        "Add": lambda site, a: a[0] + a[1],
        "Sub": lambda site, a: a[0] - a[1],
        "Mul": lambda site, a: a[0] * a[1],
        "Div": lambda site, a: a[0] / a[1],
        "Relu": lambda site, a: np.maximum(a[0], np.float32(0)),
        "Exp": lambda site, a: np.exp(a[0]),
        "Log": lambda site, a: np.log(a[0]),
        "Tanh": lambda site, a: np.tanh(a[0]),
        "Sin": lambda site, a: np.sin(a[0]),
        "Atan": lambda site, a: np.arctan(a[0]),
        "Cos": lambda site, a: np.cos(a[0]),
    }
    return Library(f"numpy {np.__version__}", np.asarray, np.asarray, _quiet(calls))


def torch_library(options: LibraryOptions = _PLAIN) -> Library:
    """PyTorch on the CPU or on a card.

    Raises RuntimeUnavailable where it is not installed, or has no such device.
    """
    try:
        torch = import_module("torch")
    except ImportError as error:
        raise RuntimeUnavailable(f"torch cannot be imported: {error}") from error
    if options.device == "cuda" and not torch.cuda.is_available():
        raise RuntimeUnavailable(f"torch {torch.__version__} sees no CUDA device")
    calls: dict[str, Call] = {
        **{op: _elementwise(getattr(torch, name)) for op, name in _TORCH.items()},
        "MatMul": lambda site, a: torch.matmul(a[0], a[1]),
        "Gemm": _torch_gemm(torch),
        "Conv": lambda site, a: _torch_conv(torch, site, a),
        "ReduceSum": lambda site, a: torch.sum(a[0], dim=reduced_axes(site)),
        "ReduceMean": lambda site, a: torch.mean(a[0], dim=reduced_axes(site)),
        "Softmax": lambda site, a: torch.softmax(a[0], dim=site.integer("axis", -1)),
        "Softplus": lambda site, a: torch.nn.functional.softplus(a[0]),
    }
    place = options.describe()
    if options.device == "cuda":
        place = place.replace("cuda", torch.cuda.get_device_name(), 1)

    def prepare() -> None:
        torch.set_num_threads(options.threads)
        torch.set_float32_matmul_precision(options.precision)
        whole = options.precision == "highest"
        torch.backends.cudnn.allow_tf32 = not whole
        products = torch.backends.cuda.matmul
        products.allow_fp16_reduced_precision_reduction = not whole
        products.allow_bf16_reduced_precision_reduction = not whole

    def takes(values: Array) -> Any:
        if values.dtype == ml_dtypes.bfloat16:
            return takes(values.view(np.int16)).view(torch.bfloat16)
        own = values if values.flags.writeable else np.array(values)
        return torch.from_numpy(own).to(options.device)

    def gives(tensor: Any) -> Array:
        if tensor.dtype == torch.bfloat16:
            return gives(tensor.view(torch.int16)).view(ml_dtypes.bfloat16)
        return np.asarray(tensor.cpu().numpy())

    return Library(f"torch {torch.__version__} ({place})", takes, gives, calls, prepare)


def _elementwise(function: Callable[..., Any]) -> Call:
    return lambda site, arguments: function(*arguments)


def _quiet(calls: Mapping[str, Call]) -> dict[str, Call]:
    """numpy's calls without its warnings: infinities and NaN are results like others."""

    def quiet(call: Call) -> Call:
        def run(site: Site, arguments: Sequence[Any]) -> Any:
            with np.errstate(all="ignore"):
                return call(site, arguments)

        return run

    return {op: quiet(call) for op, call in calls.items()}


def _gemm(product: Callable[[Any, Any], Any]) -> Call:
    def call(site: Site, arguments: Sequence[Any]) -> Any:
        a, b = _plain_factors(site, arguments)
        total = product(a, b)
        return total if len(arguments) < 3 or arguments[2] is None else total + arguments[2]

    return call


def _torch_gemm(torch: Any) -> Call:
    """`torch.nn.functional.linear`, as an exported Linear layer was."""

    def call(site: Site, arguments: Sequence[Any]) -> Any:
        a, b = _plain_factors(site, arguments)
        bias = arguments[2] if len(arguments) > 2 else None
        return torch.nn.functional.linear(a, b.T, bias)

    return call


def _plain_factors(site: Site, arguments: Sequence[Any]) -> tuple[Any, Any]:
    if site.real("alpha", 1.0) != 1.0 or site.real("beta", 1.0) != 1.0:
        raise RuntimeUnavailable("alpha and beta other than 1 have no plain call")
    a, b = arguments[:2]
    a = a.T if site.integer("transA", 0) else a
    return a, b.T if site.integer("transB", 0) else b


def _torch_conv(torch: Any, site: Site, arguments: Sequence[Any]) -> Any:
    window = window_of(site, site.type_of(1).shape[2:])
    rank = len(window.kernel)
    if rank > 3 or window.before != window.after:
        raise RuntimeUnavailable("only convolutions with even pads have a plain call")
    bias = arguments[2] if len(arguments) > 2 else None
    return getattr(torch.nn.functional, f"conv{rank}d")(
        arguments[0],
        arguments[1],
        bias,
        window.strides,
        window.before,
        window.dilations,
        site.integer("group", 1),
    )
