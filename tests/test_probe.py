"""What the probe finds, against orders that are known and against the runtime itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import small_models
from onnx import helper
from operator_checks import Example, graph_of

from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.arithmetic.runtime import sum_of_terms
from encoders.contract.contract import (
    BiasPlacement,
    Contraction,
    FactorRounding,
    Order,
    RuntimeContract,
    Schedule,
    Subnormals,
)
from encoders.contract.orders import (
    AlignedSteps,
    AnyOrder,
    Blocked,
    Blocks,
    Dwindling,
    Lanes,
    Pairwise,
    Sequential,
    Strided,
    Tree,
    merges_of,
    named_order,
    same_tree,
)
from encoders.contract.presets import BF16, FP16, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.functions.accuracy import Evidence
from encoders.functions.exp import EXP
from encoders.functions.tanh import TANH
from encoders.numbers.formats import BFLOAT16, BINARY32, TENSOR_FLOAT_32, FloatFormat
from encoders.operator import site_of
from encoders.program import step_of
from encoders.scheduling import contract_at
from gpu_check.conformance.conformance import conformance
from gpu_check.emulator.emulator import emulate, emulate_step
from gpu_check.probe.function_probe import measured
from gpu_check.probe.modes import Flushes, product_bits
from gpu_check.probe.probe import Finding, placed, probe_sums
from gpu_check.probe.probed_contract import ReducedPrecision, probe_contract
from gpu_check.probe.reveal import NotATree, revealed
from gpu_check.runtimes.kernels import OnnxKernels, Run, varying_constants
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.graph import Array, DType, Graph, Node
from refine.claims.conforming import judged
from refine.cli.main import run
from refine.domain.random_inputs import sampled_inputs
from refine.options.contract_file import read_contract
from refine.options.runtime_choice import machine, runtime_choice
from refine.results.verdict import ExitCode

KEPT = Flushes(Subnormals.KEEP, Subnormals.KEEP)


@dataclass(frozen=True)
class EmulatedKernels:
    """A runtime that obeys a contract by construction, perhaps rounding factors first."""

    graph: Graph
    contract: RuntimeContract
    bits: int = 24
    varying: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()

    def describe(self) -> str:
        return "emulated 1"

    def on(self, graph: Graph) -> EmulatedKernels:
        return replace(self, graph=graph)

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Run:
        step = step_of(replace(self.graph, constants=constants), node)

        def run(inputs: Mapping[str, Array]) -> Array:
            cut = {t: self._cut(v) if node.op == "MatMul" else v for t, v in inputs.items()}
            stacked = {t: v[None] for t, v in cut.items()}
            (computed,) = emulate_step(step, stacked, self.contract)
            return np.asarray(computed[0])

        return run

    def _cut(self, values: Array) -> Array:
        step = 2.0 ** (self.bits - 1)
        mantissa, exponent = np.frexp(values.astype(np.float64))
        return np.ldexp(np.trunc(2 * mantissa * step) / step / 2, exponent).astype(np.float32)


def gemm(folder: Path, terms: int, columns: int = 3, op: str = "Gemm") -> Graph:
    weights: dict[str, np.ndarray] = {"w": np.zeros((terms, columns), np.float32)}
    if op == "Gemm":
        weights["b"] = np.ones(columns, np.float32)
    node = helper.make_node(op, ["x", *weights], ["y"], "the_sum")
    path = folder / "one.onnx"
    small_models.save(path, [node], {"x": [1, terms]}, {"y": [1, columns]}, weights)
    return load(path)


@pytest.mark.parametrize("terms", [1, 2, 3, 9, 24])
@pytest.mark.parametrize(
    "order",
    [
        *(Sequential(), Pairwise(), Blocked(4), Blocks((3, 5)), Lanes(8), Lanes(2)),
        *(Dwindling(4), Strided(8)),
    ],
    ids=str,
)
def test_the_order_of_a_sum_is_revealed(order: Order, terms: int) -> None:
    contract = replace(SEQUENTIAL, order=order)
    arithmetic = NumpyArithmetic(BINARY32, contract)

    def total(mask: np.ndarray) -> float:
        numbers = [np.array([v], np.float32) for v in mask]
        return float(sum_of_terms(arithmetic, contract, numbers)[0])

    found = replace(contract, order=named_order(revealed(total, terms)))
    x = np.random.default_rng(1).standard_normal((terms, 50)).astype(np.float32)
    sums = [sum_of_terms(arithmetic, c, list(x)) for c in (contract, found)]
    assert np.array_equal(*sums)
    if terms == 24:
        assert not isinstance(found.order, Tree)
        assert same_tree(merges_of(found.order, terms), merges_of(order, terms))


def test_what_is_no_tree_is_refused() -> None:
    with pytest.raises(NotATree):
        revealed(lambda mask: float(np.sum(mask)) + 0.5, 4)
    with pytest.raises(NotATree):
        revealed(lambda mask: float(np.sum(np.abs(mask) == 1.0)), 4)  # exact: nothing vanishes


@pytest.mark.parametrize("contraction", [Contraction.ALWAYS, Contraction.NEVER], ids=str)
@pytest.mark.parametrize(
    ("order", "bias"),
    [
        (Sequential(), BiasPlacement.LAST),
        (Sequential(), BiasPlacement.FIRST),
        (Blocked(4), BiasPlacement.AFTER_FIRST_BLOCK),
        (Blocks((6, 2, 4)), BiasPlacement.LAST),
        (Lanes(4), BiasPlacement.LAST),
        (Strided(4), BiasPlacement.LAST),
    ],
    ids=str,
)
def test_a_schedule_is_found_whole(
    order: Order, bias: BiasPlacement, contraction: Contraction, tmp_path: Path
) -> None:
    graph = gemm(tmp_path, 12)
    contract = replace(SEQUENTIAL, order=order, contraction=contraction, bias=bias)
    (finding,) = probe_sums(graph, EmulatedKernels(graph, contract), KEPT)
    assert finding.schedule == Schedule(order, contraction, bias)
    assert finding.replayed == 64


def test_what_does_not_replay_stays_open(tmp_path: Path) -> None:
    """Factors rounded to 11 bits reveal the same tree, but no schedule gives the bits."""
    graph = gemm(tmp_path, 12, op="MatMul")
    (finding,) = probe_sums(graph, EmulatedKernels(graph, SEQUENTIAL, bits=11), KEPT)
    assert finding.schedule.order == AnyOrder()
    assert not finding.pinned
    assert "does not reproduce" in finding.note


@pytest.mark.parametrize("bits", [7, 23, 24])
def test_reduced_precision_is_seen(bits: int, tmp_path: Path) -> None:
    graph = gemm(tmp_path, 4)
    kernels = EmulatedKernels(graph, SEQUENTIAL, bits=bits)
    assert product_bits(kernels) == bits
    if bits < 24:
        with pytest.raises(ReducedPrecision, match=f"{bits} of 24"):
            probe_contract(graph, kernels)


@pytest.mark.parametrize("fmt", [TENSOR_FLOAT_32, BFLOAT16], ids=lambda f: f.name)
@pytest.mark.parametrize("rounding", [FactorRounding.NEAREST, FactorRounding.TRUNCATE], ids=str)
def test_short_factors_are_put_into_the_contract(
    fmt: FloatFormat, rounding: FactorRounding, tmp_path: Path
) -> None:
    graph = gemm(tmp_path, 40)
    real = replace(SEQUENTIAL_FMA, factor_format=fmt, factor_rounding=rounding)
    kernels = EmulatedKernels(graph, real)
    found = probe_contract(graph, kernels).contract
    assert (found.factor_format, found.factor_rounding) == (fmt, rounding)
    assert [r.schedule for r in found.rules] == [real.schedule]
    assert conformance(
        graph, EmulatedMachine(graph, real), found, samples=inputs_of(graph)
    ).conforms
    other = replace(SEQUENTIAL_FMA, order=AlignedSteps(4, 25))
    stepped = replace(other, factor_format=fmt, factor_rounding=rounding)
    found = probe_contract(graph, EmulatedKernels(graph, stepped)).contract
    assert [r.schedule.order for r in found.rules] == [AnyOrder(23)], "no tree adds in steps"
    assert conformance(
        graph, EmulatedMachine(graph, stepped), found, samples=inputs_of(graph)
    ).conforms


class UnevenKernels(EmulatedKernels):
    """Short factors in some products only, as libraries decide by shape."""

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Run:
        small = len(self.graph.types[node.outputs[0]].shape) == 2
        small = small and self.graph.types[node.outputs[0]].shape[0] < 64
        plain = EmulatedKernels(self.graph, SEQUENTIAL)
        return plain.kernel(node, constants) if small else super().kernel(node, constants)


def test_factors_that_are_short_in_some_products_stay_open(tmp_path: Path) -> None:
    graph = gemm(tmp_path, 40)
    real = replace(
        SEQUENTIAL, factor_format=TENSOR_FLOAT_32, factor_rounding=FactorRounding.NEAREST
    )
    found = probe_contract(graph, UnevenKernels(graph, real)).contract
    assert found.factor_format == TENSOR_FLOAT_32
    assert found.factor_rounding is FactorRounding.ANY
    assert not any(r.schedule.pinned for r in found.rules)


def inputs_of(graph: Graph) -> list[Mapping[str, Array]]:
    return sampled_inputs(graph, ("-1..1",), 8, 0)


@dataclass(frozen=True)
class EmulatedMachine:
    """The same for whole graphs."""

    graph: Graph
    contract: RuntimeContract
    bits: int = 24

    @property
    def kernels(self) -> EmulatedKernels:
        return EmulatedKernels(self.graph, self.contract, self.bits)

    def describe(self) -> str:
        return self.kernels.describe()

    def tensors(self, samples: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
        stacked = {t: np.stack([s[t] for s in samples]) for t in samples[0]}
        return emulate(self.graph, stacked, self.contract, every_tensor=True)


@pytest.mark.parametrize("results", [Subnormals.KEEP, Subnormals.FLUSH])
@pytest.mark.parametrize("operands", [Subnormals.KEEP, Subnormals.FLUSH])
def test_flushing_is_seen(results: Subnormals, operands: Subnormals, tmp_path: Path) -> None:
    graph = gemm(tmp_path, 4)
    contract = replace(SEQUENTIAL, results=results, operands=operands)
    found = probe_contract(graph, EmulatedKernels(graph, contract)).contract
    assert (found.results, found.operands) == (results, operands)


@dataclass(frozen=True)
class MoodyKernels(EmulatedKernels):
    """Another order for batches, or for the last row of one."""

    last: bool = False

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Run:
        usual = super().kernel(node, constants)
        other = replace(self, contract=replace(SEQUENTIAL, order=Lanes(4)))
        unusual = EmulatedKernels.kernel(other, node, constants)

        def run(inputs: Mapping[str, Array]) -> Array:
            y = usual(inputs)
            if len(y) == 1:
                return y
            late = unusual(inputs)
            return np.concatenate([y[:-1], late[-1:]]) if self.last else late

        return run


@pytest.mark.parametrize("op", ["Gemm", "MatMul"])
def test_batches_that_change_bits_are_seen(op: str, tmp_path: Path) -> None:
    graph = gemm(tmp_path, 24, op=op)

    def seen(kernels: EmulatedKernels) -> tuple[bool | None, bool | None]:
        (finding,) = probe_sums(graph, kernels, KEPT, samples=4)
        assert finding.pinned
        return finding.changed_by_batch, finding.changed_by_position

    assert seen(EmulatedKernels(graph, SEQUENTIAL)) == (False, False)
    assert seen(MoodyKernels(graph, SEQUENTIAL)) == (True, False)
    assert seen(MoodyKernels(graph, SEQUENTIAL, last=True)) == (True, True)
    provenance = dict(probe_contract(graph, MoodyKernels(graph, SEQUENTIAL)).contract.provenance)
    assert provenance["batch_changes_bits"] == "at the_sum"
    assert provenance["position_changes_bits"] == "no"


# onnxruntime


def test_a_sum_in_which_the_probe_overflows_stays_open(tmp_path: Path) -> None:
    """A matrix by itself: the square of a large number."""
    node = helper.make_node("Gemm", ["x", "x", "b"], ["y"], "the_sum", transB=1)
    weights = {"b": np.ones(2, np.float32)}
    path = small_models.save(tmp_path / "g.onnx", [node], {"x": [2, 2]}, {"y": [2, 2]}, weights)
    (finding,) = onnx_findings(load(path))
    assert finding.schedule.order == AnyOrder()
    assert "overflow" in finding.note


def onnx_findings(graph: Graph) -> list[Finding]:
    assert graph.source is not None
    kernels = OnnxKernels(graph, varying_constants(graph))
    return list(probe_sums(graph, kernels, KEPT, samples=8))


def agreed(graph: Graph, findings: list[Finding], count: int = 20) -> None:
    """Emulation under the probed contract gives the runtime's bits on other inputs."""
    assert graph.source is not None
    assert all(f.pinned for f in findings), [f.note for f in findings]
    kernels = OnnxKernels(graph, varying_constants(graph))
    contract = probe_contract(graph, kernels, samples=4).contract
    rng = np.random.default_rng(99)
    x = rng.standard_normal((count, *graph.types["x"].shape)).astype(np.float32)
    emulated = emulate(graph, {"x": x}, contract)["y"]
    runtime = OnnxRuntime(graph.source)
    given = np.stack([runtime.run({"x": v})["y"] for v in x])
    assert np.array_equal(emulated, given)


@pytest.mark.parametrize("op", ["Gemm", "MatMul"])
@pytest.mark.parametrize("terms", [5, 300])
def test_constant_weights_on_onnxruntime(op: str, terms: int, tmp_path: Path) -> None:
    """runtime-facts: sequential FMA in blocks of 256, Gemm's bias after the first."""
    graph = gemm(tmp_path, terms, 9, op)
    (finding,) = findings = onnx_findings(graph)
    assert finding.schedule.order == (Blocked(256) if terms > 256 else Sequential())
    assert finding.schedule.contraction is Contraction.ALWAYS
    if op == "Gemm" and terms > 256:
        assert finding.schedule.bias is BiasPlacement.AFTER_FIRST_BLOCK
    agreed(graph, findings)


def test_weights_that_onnxruntime_computes(tmp_path: Path) -> None:
    """A transposed initializer is constant to the graph and not to the runtime, which then adds
    groups of 4 without FMA when there is one row."""
    nodes = [
        helper.make_node("Transpose", ["v"], ["w"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "w"], ["y"], "the_sum"),
    ]
    weights = {"v": np.random.default_rng(0).standard_normal((6, 22)).astype(np.float32)}
    path = small_models.save(tmp_path / "t.onnx", nodes, {"x": [1, 22]}, {"y": [1, 6]}, weights)
    graph = load(path)
    (finding,) = findings = onnx_findings(graph)
    assert finding.schedule == Schedule(Blocked(4), Contraction.NEVER)
    agreed(graph, findings)
    kernels = OnnxKernels(graph, varying_constants(graph))
    (rule,) = probe_contract(graph, kernels, samples=2).contract.rules
    assert rule.node == "the_sum", "the rule must not reach weights that are stored"


def test_convolution_on_onnxruntime(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "b": rng.standard_normal(4).astype(np.float32),
    }
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv", pads=[1, 1, 1, 1])
    shapes = {"x": [1, 3, 6, 6]}, {"y": [1, 4, 6, 6]}
    graph = load(small_models.save(tmp_path / "c.onnx", [node], *shapes, weights))
    findings = onnx_findings(graph)
    assert findings[0].schedule.order == Sequential()
    agreed(graph, findings)


def sum_along(axis: int, behind: str, folder: Path) -> Graph:
    """A sum over one axis of 64 × 64 numbers, behind another node or of the user's."""
    source = "z" if behind else "x"
    nodes = [helper.make_node(behind, ["x"], ["z"])] if behind else []
    nodes.append(helper.make_node("ReduceSum", [source, "axes"], ["y"], "the_sum", keepdims=0))
    weights = {"axes": np.array([axis], np.int64)}
    return load(small_models.save(folder / "s.onnx", nodes, {"x": [64, 64]}, {"y": [64]}, weights))


@pytest.mark.parametrize(
    ("axis", "behind", "order"),
    [
        (0, "", Sequential()),
        (1, "Relu", Lanes(8)),
        (1, "", AnyOrder()),
        (1, "Identity", AnyOrder()),
    ],
    ids=str,
)
def test_sums_on_onnxruntime(axis: int, behind: str, order: Order, tmp_path: Path) -> None:
    """runtime-facts: 8 lanes folded by halves along the last axis, sequential along the first. The
    lanes of numbers that the user gives begin where the array lies in memory."""
    graph = sum_along(axis, behind, tmp_path)
    if isinstance(order, AnyOrder):
        assert graph.source is not None
        runtime = OnnxRuntime(graph.source)
        x = np.random.default_rng(3).standard_normal((64, 64)).astype(np.float32)
        here, there = (runtime.run({"x": placed(x, offset)})["y"] for offset in (0, 1))
        assert not np.array_equal(here, there), "the runtime's own bits do not depend on the place"
        (finding,) = onnx_findings(graph)
        assert "where its input lies" in finding.note
        assert finding.schedule.order == order
        return
    (finding,) = findings = onnx_findings(graph)
    assert finding.schedule.order == order
    agreed(graph, findings)


def test_sums_that_depend_on_where_a_row_begins(tmp_path: Path) -> None:
    """Rows of 17 numbers begin at every offset from a vector's boundary: no one order holds."""
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], "the_sum", keepdims=0)
    weights = {"axes": np.array([1], np.int64)}
    shapes = {"x": [8, 17]}, {"y": [8]}
    graph = load(small_models.save(tmp_path / "s.onnx", [node], *shapes, weights))
    (finding,) = onnx_findings(graph)
    assert finding.schedule.order == AnyOrder()


def test_float16_functions_are_measured_exhaustively(tmp_path: Path) -> None:
    """onnxruntime's float16 exp is float32's, rounded: half an ulp and a little."""
    figures = measured(OnnxKernels(gemm(tmp_path, 2)), EXP, DType.FLOAT16)
    assert figures.exhaustive
    assert figures.inputs > 50_000
    assert 0.5 < figures.ulps < 0.501
    accuracy = figures.accuracy("here")
    assert accuracy is not None
    assert accuracy.evidence is Evidence.EXHAUSTIVE


def test_float32_functions_are_sampled(tmp_path: Path) -> None:
    """runtime-facts: exp errs by 0.866 ulp over all inputs, tanh exceeds 1 by two units."""
    kernels = OnnxKernels(gemm(tmp_path, 2))
    exp = measured(kernels, EXP, DType.FLOAT32)
    assert 0.7 < exp.ulps <= 0.867
    accuracy = exp.accuracy("here")
    assert accuracy is not None
    assert accuracy.ulps is not None
    assert accuracy.ulps >= 0.867, "a sample is believed with a margin"
    tanh = measured(kernels, TANH, DType.FLOAT32)
    assert 1.0 <= tanh.excess <= 4.0
    assert 3.0 < tanh.units < 6.0


# Other runtimes


def test_numpy_is_a_runtime(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever this machine's numpy does: what is believed of it holds on other inputs."""
    model = small_models.mlp(tmp_path / "net.onnx", (40, 9, 2))
    path = tmp_path / "c.toml"
    assert run(["probe", str(model), "--runtime", "numpy", "-o", str(path)]) is ExitCode.VERIFIED
    assert "numpy" in read_contract(path).name
    arguments = ["conform", str(model), "--runtime", "numpy", "--contract"]
    assert run([*arguments, str(path), "--seed", "5"]) is ExitCode.VERIFIED
    assert "relu1' (Relu): bit for bit" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    ["numpy", "onnxruntime:threads=3,flush", "torch", "torch:threads=2,precision=high"],
)
def test_a_choice_is_written_as_it_is_read(text: str) -> None:
    assert runtime_choice(text).written() == text


@pytest.mark.parametrize("setting", ["", ":threads=2", ":precision=medium"])
def test_torch_settings_hold_at_every_call(setting: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    graph = load(small_models.mlp(tmp_path / "net.onnx", (40, 9, 2)))
    sample = [{"x": np.ones(graph.types["x"].shape, np.float32)}]
    with machine(runtime_choice(f"torch{setting}"), graph) as one:
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision("highest")
        one.tensors(sample)
        assert torch.get_num_threads() == (2 if "threads" in setting else 1)
        wanted = "medium" if "precision" in setting else "highest"
        assert torch.get_float32_matmul_precision() == wanted
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")


def test_torch_in_sixteen_bits() -> None:
    """float16 and bfloat16 products stay within their contract's bounds."""
    pytest.importorskip("torch")
    for dtype in (np.float16, ml_dtypes.bfloat16):
        weights = {"W": np.random.default_rng(4).standard_normal((30, 5))}
        case = Example("half", (("MatMul", "x W", "y", {}),), {"x": (4, 30)}, weights)
        graph, _ = graph_of(case, dtype)
        batch = sampled_inputs(graph, ("-1..1",), 8, 0)
        contract = FP16 if dtype is np.float16 else BF16
        found = judged(graph, runtime_choice("torch"), contract, batch)
        assert found.conforms
        assert found.compared


def test_a_device_that_is_not_here_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    model = small_models.mlp(tmp_path / "net.onnx", (2, 2))
    assert run(["probe", str(model), "--runtime", "torch:device=cuda"]) is ExitCode.INPUT_ERROR
    assert "sees no CUDA device" in capsys.readouterr().err


def test_torch_is_a_runtime(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    model = small_models.mlp(tmp_path / "net.onnx", (40, 9, 2))
    path = tmp_path / "c.toml"
    assert run(["probe", str(model), "--runtime", "torch", "-o", str(path)]) is ExitCode.VERIFIED
    arguments = ["conform", str(model), "--runtime", "torch", "--contract", str(path)]
    assert run(arguments) is ExitCode.VERIFIED


def test_an_operator_that_a_library_lacks_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = helper.make_node("Erf", ["x"], ["y"], "bend")
    model = small_models.save(tmp_path / "e.onnx", [node], {"x": [1, 9]}, {"y": [1, 9]})
    arguments = ["conform", str(model), "--runtime", "numpy", "--contract", "sequential"]
    assert run(arguments) is ExitCode.INPUT_ERROR
    assert "Erf" in capsys.readouterr().err


# The command line


def test_probe_writes_a_contract_that_check_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_models.mlp(tmp_path / "net.onnx", (3, 9, 2))
    path = tmp_path / "c.toml"
    assert run(["probe", str(model), "-o", str(path), "--samples", "4"]) is ExitCode.VERIFIED
    assert "bit for bit" in capsys.readouterr().out
    contract = read_contract(path)
    graph = load(model)
    first = site_of(graph, graph.order[0])
    assert contract_at(first, contract).schedule == Schedule(Sequential(), Contraction.ALWAYS)
    assert dict(contract.provenance)["threads"] == "1"
    assert contract.results is Subnormals.KEEP
    assert {e.field for e in contract.evidence} >= {"order", "fma", "bias", "factors"}
    bound: Callable[[str], ExitCode] = lambda c: run(  # noqa: E731
        ["check", str(model), "--input", "-1..1", "--eps", "1e-5", "--contract", c, "-q"]
    )
    assert bound(str(path)) is ExitCode.VERIFIED
    assert bound("probe:onnxruntime") is ExitCode.VERIFIED
    assert run(["probe", str(model)]) is ExitCode.VERIFIED
    assert 'order = "sequential"' in capsys.readouterr().out


@pytest.mark.parametrize(
    "runtime",
    [
        "abacus",
        "onnxruntime:speed=9",
        "onnxruntime:threads=0",
        "onnxruntime:optimization=all",
        "numpy:threads=2",
        "torch:flush",
        "torch:device=tpu",
        "onnxruntime:device=cuda",
    ],
)
def test_a_runtime_that_cannot_be_probed(
    runtime: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_models.mlp(tmp_path / "net.onnx", (2, 2))
    assert run(["probe", str(model), "--runtime", runtime]) is ExitCode.INPUT_ERROR
    assert capsys.readouterr().err.count("\n") == 1


def test_a_tree_is_kept_where_no_name_fits() -> None:
    assert isinstance(named_order(((0, 1), (4, 3), (5, 2))), Tree)
