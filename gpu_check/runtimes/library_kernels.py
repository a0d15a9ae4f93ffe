"""numpy, PyTorch and JAX as runtimes: ONNX operators as the calls that people write for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from encoders.contract.presets import SEQUENTIAL
from encoders.families.parameters import word
from encoders.families.pooling import pool_window, reduced_axes
from encoders.families.windows import window_of
from encoders.operator import Site
from encoders.program import Step, forward, program_of, step_of
from gpu_check.emulator.emulator import emulate_step
from gpu_check.runtimes.array_calls import (
    FOLDED,
    Call,
    array_calls,
    elementwise,
    folded,
    of_channels,
    quiet,
    transposed_window,
    with_made,
)
from gpu_check.runtimes.kernels import Run
from gpu_check.runtimes.runtimes import LibraryOptions, RuntimeUnavailable
from onnx_import.graph import Array, Graph, Node
from onnx_import.onnx.reader import MADE

_PLAIN = LibraryOptions()
Tensors: TypeAlias = Mapping[str, Any]
Differentiable: TypeAlias = Callable[[Tensors], Any]
_TORCH = {
    **{
        op: op.lower() for op in ("Abs", "Add", "Atan", "Ceil", "Cos", "Div", "Erf", "Exp", "Floor")
    },
    **{op: op.lower() for op in ("Log", "Mul", "Neg", "Relu", "Round", "Sigmoid", "Sign", "Sin")},
    **{op: op.lower() for op in ("Acos", "Acosh", "Asin", "Asinh", "Atanh", "Cosh", "Sinh", "Tan")},
    **{op: op.lower() for op in ("Less", "Greater", "Pow", "Reciprocal", "Sqrt", "Sub", "Tanh")},
    "And": "logical_and",
    "Equal": "eq",
    "GreaterOrEqual": "greater_equal",
    "LessOrEqual": "less_equal",
    "MaskedWhere": "where",
    "Not": "logical_not",
    "Or": "logical_or",
    "Where": "where",
}  # ONNX's operators, and torch's functions of the same arguments


@dataclass(frozen=True)
class Library:
    """A library's name and version, how it takes and gives arrays, its calls by operator, and what
    sets it up before a call. `join` puts arrays of one axis one after the other, and
    `differentiate(run, at, up)` gives what `run` makes of tensors by name and the derivatives of
    its inner product with `up` by them, where the library differentiates what it runs."""

    title: str
    takes: Callable[[Array], Any]
    gives: Callable[[Any], Array]
    calls: Mapping[str, Call]
    prepare: Callable[[], None] = lambda: None
    join: Callable[[Sequence[Any]], Any] | None = None
    differentiate: Callable[[Differentiable, Tensors, Any], tuple[Any, Tensors]] | None = None


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
            raise RuntimeUnavailable(
                f"{self.library.title} has no {MADE.get(node.op, node.op)} here"
            )
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
    calls = {**array_calls(np), "Gemm": _gemm(np.matmul)}
    return Library(f"numpy {np.__version__}", np.asarray, np.asarray, quiet(with_made(np, calls)))


def jax_library(options: LibraryOptions = _PLAIN) -> Library:
    """JAX, each operator a call of its own, on the device that it takes by itself.

    Raises RuntimeUnavailable where it is not installed.
    """
    try:
        jax, xp = import_module("jax"), import_module("jax.numpy")
    except ImportError as error:
        raise RuntimeUnavailable(f"jax cannot be imported: {error}") from error
    calls: dict[str, Call] = {
        **array_calls(xp),
        "Conv": lambda site, a: _jax_conv(jax.lax, site, a),
        "Elu": lambda site, a: jax.nn.elu(a[0], a[0].dtype.type(site.real("alpha", 1.0))),
        "Erf": lambda site, a: jax.lax.erf(a[0]),
        "Gelu": lambda site, a: jax.nn.gelu(
            a[0], word(site, "approximate", "none", ("none", "tanh")) == "tanh"
        ),
        "Gemm": _gemm(xp.matmul),
        "LogSoftmax": lambda site, a: jax.nn.log_softmax(a[0], axis=site.integer("axis", -1)),
        "Relu": lambda site, a: jax.nn.relu(a[0]),
        "Sigmoid": lambda site, a: jax.nn.sigmoid(a[0]),
        "Softmax": lambda site, a: jax.nn.softmax(a[0], axis=site.integer("axis", -1)),
        "Softplus": lambda site, a: jax.nn.softplus(a[0]),
    }
    coarse = "" if options.precision == "highest" else f", precision {options.precision}"

    def prepare() -> None:
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_default_matmul_precision", options.precision)

    title = f"jax {jax.__version__} ({jax.default_backend()}{coarse})"

    def differentiate(run: Differentiable, at: Tensors, up: Any) -> tuple[Any, Tensors]:
        value, back = jax.vjp(run, dict(at))
        return value, back(up)[0]

    calls = with_made(xp, calls)
    return Library(title, xp.asarray, np.asarray, calls, prepare, xp.concatenate, differentiate)


def _jax_conv(lax: Any, site: Site, arguments: Sequence[Any]) -> Any:
    window = window_of(site, site.type_of(1).shape[2:])
    found = lax.conv_general_dilated(
        arguments[0],
        arguments[1],
        window.strides,
        list(zip(window.before, window.after, strict=True)),
        rhs_dilation=window.dilations,
        feature_group_count=site.integer("group", 1),
    )
    bias = arguments[2] if len(arguments) > 2 else None
    return found if bias is None else found + of_channels(bias, found.ndim)


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
        **{op: elementwise(getattr(torch, name)) for op, name in _TORCH.items()},
        **{op: folded(getattr(torch, name)) for op, name in FOLDED.items()},
        "AveragePool": lambda site, a: _torch_pool(torch, "avg_pool", site, a[0]),
        "BatchNormalization": lambda site, a: torch.nn.functional.batch_norm(
            a[0], a[3], a[4], a[1], a[2], False, 0.0, site.real("epsilon", 1e-5)
        ),
        "Cast": lambda site, a: a[0].to(getattr(torch, str(site.outputs[0].dtype.value))),
        "Clip": lambda site, a: torch.clamp(a[0], *(*a[1:], None, None)[:2]),
        "Conv": lambda site, a: _torch_conv(torch, site, a),
        "ConvTranspose": lambda site, a: _torch_transposed(torch, site, a),
        "Elu": lambda site, a: torch.nn.functional.elu(a[0], site.real("alpha", 1.0)),
        "Gelu": lambda site, a: torch.nn.functional.gelu(
            a[0], approximate=word(site, "approximate", "none", ("none", "tanh"))
        ),
        "Gemm": _torch_gemm(torch),
        "GlobalAveragePool": lambda site, a: torch.mean(a[0], dim=(*range(2, a[0].ndim),)),
        "InstanceNormalization": lambda site, a: torch.nn.functional.instance_norm(
            a[0], weight=a[1], bias=a[2], eps=site.real("epsilon", 1e-5)
        ),
        "LayerNormalization": lambda site, a: torch.nn.functional.layer_norm(
            a[0], a[0].shape[site.integer("axis", -1) :], *a[1:3], eps=site.real("epsilon", 1e-5)
        ),
        "LeakyRelu": lambda site, a: torch.nn.functional.leaky_relu(a[0], site.real("alpha", 0.01)),
        "LogSoftmax": lambda site, a: torch.log_softmax(a[0], dim=site.integer("axis", -1)),
        "MatMul": lambda site, a: torch.matmul(a[0], a[1]),
        "MaxPool": lambda site, a: _torch_pool(torch, "max_pool", site, a[0]),
        "ReduceMax": lambda site, a: torch.amax(a[0], dim=reduced_axes(site)),
        "ReduceMin": lambda site, a: torch.amin(a[0], dim=reduced_axes(site)),
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

    def differentiate(run: Differentiable, at: Tensors, up: Any) -> tuple[Any, Tensors]:
        held = {t: v.clone().requires_grad_() for t, v in at.items()}
        value = run(held)
        if not value.requires_grad:
            return value, {t: torch.zeros_like(v) for t, v in at.items()}
        found = torch.autograd.grad(value, list(held.values()), up, allow_unused=True)
        slopes = zip(held.items(), found, strict=True)
        return value.detach(), {t: torch.zeros_like(v) if g is None else g for (t, v), g in slopes}

    title = f"torch {torch.__version__} ({place})"
    calls = with_made(torch, calls)
    return Library(title, takes, gives, calls, prepare, torch.cat, differentiate)


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


def _torch_pool(torch: Any, name: str, site: Site, x: Any) -> Any:
    window = pool_window(site)
    rank = len(window.kernel)
    if rank > 3 or window.before != window.after or site.integer("ceil_mode", 0):
        raise RuntimeUnavailable("only pools with even pads have a plain call")
    function = getattr(torch.nn.functional, f"{name}{rank}d")
    if name == "max_pool":
        return function(x, window.kernel, window.strides, window.before, window.dilations)
    if any(d != 1 for d in window.dilations):
        raise RuntimeUnavailable("only averages over whole windows have a plain call")
    padded = bool(site.integer("count_include_pad", 0))
    return function(x, window.kernel, window.strides, window.before, count_include_pad=padded)


def _torch_transposed(torch: Any, site: Site, arguments: Sequence[Any]) -> Any:
    window = transposed_window(site)
    rank = len(window.kernel)
    if rank > 3 or window.before != window.after:
        raise RuntimeUnavailable("only convolutions with even pads have a plain call")
    more = tuple(
        o - ((n - 1) * s - 2 * p + d * (k - 1) + 1)
        for o, n, s, p, d, k in zip(
            window.output,
            site.type_of(0).shape[2:],
            window.strides,
            window.before,
            window.dilations,
            window.kernel,
            strict=True,
        )
    )
    return getattr(torch.nn.functional, f"conv_transpose{rank}d")(
        arguments[0],
        arguments[1],
        arguments[2] if len(arguments) > 2 else None,
        window.strides,
        window.before,
        more,
        site.integer("group", 1),
        window.dilations,
    )
