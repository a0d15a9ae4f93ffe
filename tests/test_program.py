"""The resolved program: what is found once per node, and the two walks."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import small_models
from onnx import helper

import encoders.program
from encoders.operator import Site, remembered, site_of
from encoders.ops.movement import slice as slicing
from encoders.program import Step, arguments, backward, forward, program_of
from encoders.registry import lookup
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import DType, Graph, Node, TensorType, build_graph
from refine.proof.cross_check import SAMPLE
from refine.results.verdict import Verdict


@pytest.fixture
def branching(tmp_path: Path) -> Graph:
    """Tensors that several nodes read, one that a node reads twice, and an omitted input."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "affine"),
        helper.make_node("Relu", ["h"], ["r"], "bend"),
        helper.make_node("Mul", ["r", "r"], ["s"], "square"),
        helper.make_node("Slice", ["s", "starts", "ends", "axes"], ["part"], "cut"),
        helper.make_node("Add", ["part", "r"], ["t"], "join"),
        helper.make_node("Clip", ["t", "", "most"], ["y"], "clip"),
        helper.make_node("Sub", ["y", "h"], ["z"], "rest"),
    ]
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(size=(2, 3)).astype(np.float32),
        "b": rng.normal(size=3).astype(np.float32),
        "starts": np.array([0], np.int64),
        "ends": np.array([1], np.int64),
        "axes": np.array([1], np.int64),
        "most": np.array(0.7, np.float32),
    }
    ends = {"z": [1, 3], "y": [1, 3]}
    return load(small_models.save(tmp_path / "m.onnx", nodes, {"x": [1, 2]}, ends, weights))


# --- found once


def test_a_check_finds_operator_and_site_once_per_node(
    tmp_path: Path, branching: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each graph, that is: a check also makes smaller ones, for one question each."""
    graphs: dict[int, Graph] = {}  # which keeps them alive, and so their identities apart
    sites: Counter[tuple[int, str]] = Counter()
    found: list[Node] = []

    def counted_site(graph: Graph, node: Node) -> Site:
        graphs[id(graph)] = graph
        sites[id(graph), node.name] += 1
        return site_of(graph, node)

    monkeypatch.setattr(encoders.program, "site_of", counted_site)

    def counted_lookup(node: Node) -> Any:
        found.append(node)
        return lookup(node)

    monkeypatch.setattr(encoders.program, "lookup", counted_lookup)
    result = small_models.settled(
        tmp_path / "m.onnx", eps="1e-30", cross_check=SAMPLE, budget=0.3, search_seconds=0.3
    )
    assert result.verdict in (Verdict.VIOLATED, Verdict.UNKNOWN)
    assert result.worst_found is not None
    whole = [g for g in graphs.values() if g.outputs == branching.outputs]
    assert any(len(g.order) == len(branching.order) for g in whole)
    assert set(sites.values()) == {1}
    assert len(found) == len(sites)


def test_a_check_makes_an_index_map_once_per_site(
    tmp_path: Path, branching: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Site] = []
    cut = slicing._cut

    def counted(site: Site) -> Any:
        asked.append(site)
        return cut(site)

    monkeypatch.setattr(slicing, "_cut", counted)
    small_models.settled(tmp_path / "m.onnx", eps="1e-30", search_seconds=0.3)
    assert set(Counter(map(id, asked)).values()) == {1}
    assert len({id(site) for site in asked}) < len(branching.order)


def test_what_is_remembered_is_read_only_and_made_once() -> None:
    made: list[Site] = []

    @remembered
    def index(site: Site) -> Any:
        made.append(site)
        return np.arange(3)

    kind = TensorType(DType.FLOAT32, (3,))
    node = Node("n", "Identity", inputs=("x",), outputs=("y",), attributes={}, opset=17)
    site = Site(node, (kind,), (kind,), (None,))
    assert index(site) is index(site)
    with pytest.raises(ValueError, match="read-only"):
        index(site)[0] = 7
    index(replace(site))
    assert made == [site, site]


def test_a_program_lives_and_ends_with_its_graph(branching: Graph) -> None:
    program = program_of(branching)
    assert program_of(branching) is program
    assert program_of(replace(branching)) is not program
    copy = pickle.loads(pickle.dumps(branching))
    assert program_of(copy).steps[0].name == program.steps[0].name
    kept = weakref.ref(copy)
    del copy
    gc.collect()
    assert kept() is None


def test_an_operator_without_a_meaning_is_named(branching: Graph) -> None:
    node = replace(branching.order[1], op="Frobnicate")
    unknown = replace(branching, order=(branching.order[0], node, *branching.order[2:]))
    for _ in range(2):  # a failure is told again, not remembered
        with pytest.raises(UnsupportedModel, match=r"'bend'.*Frobnicate"):
            program_of(unknown)


# --- what a step knows


def test_readers_and_writers_are_the_edges_of_the_graph(branching: Graph) -> None:
    program = program_of(branching)
    edges = {(a, b, tensor) for a, b, tensor in branching.dag.edges(data="tensor")}
    ours = {
        (writer.name, reader.name, tensor)
        for tensor, writer in program.writers.items()
        for reader in program.readers(tensor)
    }
    assert ours == edges
    assert [step.name for step in program.readers("x")] == ["affine"]
    assert program.readers("z") == ()
    assert program.step(branching.order[2]).reads == ("r", "r")


def test_arguments_follow_the_positions_of_the_inputs(branching: Graph) -> None:
    step = program_of(branching).writers["y"]
    given = arguments(step, {"t": "tensor"}, lambda held, kind: f"{float(held):.1f} {kind.dtype}")
    assert given.given == ("tensor", None, "0.7 DType.FLOAT32")
    assert (given[0], given.optional(1), given.optional(3)) == ("tensor", None, None)
    with pytest.raises(UnsupportedModel, match="input 1 is omitted"):
        given[1]


def test_a_step_can_hold_other_constants(branching: Graph) -> None:
    step = program_of(branching).writers["h"]
    values = np.ones((2, 3), np.float32)
    held = step.holding({"w": values, "x": np.ones((1, 2), np.float32), "of no input": values})
    assert held.reads == ()
    assert held.constants["w"] is values
    assert held.constants["b"] is step.constants["b"]
    assert step.reads == ("x",)


# --- the walks


def graphs() -> Iterator[Graph]:
    """Random networks of sums."""
    rng = np.random.default_rng(0)
    kind = TensorType(DType.FLOAT32, (1,))
    for size in range(1, 9):
        tensors = ["x"]
        nodes = []
        for k in range(size):
            read = tuple(str(t) for t in rng.choice(tensors, 2))
            nodes.append(
                Node(f"n{k}", "Add", inputs=read, outputs=(f"t{k}",), attributes={}, opset=17)
            )
            tensors.append(f"t{k}")
        types = dict.fromkeys(tensors, kind)
        shuffled = tuple(nodes[i] for i in rng.permutation(size))
        yield build_graph(shuffled, types, {}, inputs=("x",), outputs=(tensors[-1],))


def paths(graph: Graph, start: str, end: str) -> int:
    """From tensor to tensor, counted by networkx."""
    tensors: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    tensors.add_nodes_from(graph.types)
    tensors.add_edges_from((t, n.outputs[0]) for n in graph.order for t in n.inputs)
    return 1 if start == end else len(list(nx.all_simple_edge_paths(tensors, start, end)))


@dataclass
class Counting:
    """How many ways lead from each tensor to the end; and what is carried, in its order."""

    ways: dict[str, int]
    carried: list[str] = field(default_factory=list)

    def arrived(self, step: Step) -> int | None:
        return self.ways.get(step.output)

    def carry(self, step: Step, arrived: int) -> None:
        self.carried.append(step.name)
        for tensor in step.reads:
            self.ways[tensor] = self.ways.get(tensor, 0) + arrived


@pytest.mark.parametrize("graph", list(graphs()), ids=lambda g: f"{len(g.order)} nodes")
def test_both_walks_count_the_paths_of_a_graph(graph: Graph) -> None:
    def added(step: Step, values: Mapping[str, int]) -> tuple[int]:
        return (sum(values[t] for t in step.reads),)

    program, (end,) = program_of(graph), graph.outputs
    assert forward(program, {"x": 1}, added) == {t: paths(graph, "x", t) for t in graph.types}
    counting = Counting({end: 1})
    backward(program, counting)
    expected = {t: paths(graph, t, end) for t in graph.types}
    assert counting.ways == {t: n for t, n in expected.items() if n}
    needed = {n.name for n in graph.order if expected[n.outputs[0]]}
    assert counting.carried == [s.name for s in reversed(program.steps) if s.name in needed]
