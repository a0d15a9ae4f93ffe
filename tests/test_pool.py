"""Workers: what they share goes to each once, and one that is killed costs its tasks alone."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import small_models
from pool_tasks import die_once, dying, failing, failing_unread, failing_unsent, squared

from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.enclosure import FloatArray, Interval
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine import bound
from refine.bounds.batch import Batches
from refine.bounds.network import InputBox, network_bounds
from refine.bounds.problem import Network
from refine.process.cluster import Cluster
from refine.process.pool import Here, Pool, Processes, WorkLost
from refine.proof.cover import covers
from refine.proof.input_splitting import Split, part_of, split_box


@pytest.fixture(scope="module")
def cluster() -> Iterator[Pool]:
    """A scheduler and two worker processes."""
    distributed = pytest.importorskip("distributed")
    scheduler = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    )
    with scheduler:
        yield Cluster(scheduler.scheduler_address)


@pytest.fixture(params=["processes", "cluster"])
def pool(request: pytest.FixtureRequest) -> Pool:
    if request.param == "processes":
        return Processes(2)
    found: Pool = request.getfixturevalue("cluster")
    return found


def test_a_killed_worker_costs_its_tasks_alone(pool: Pool, tmp_path: Path) -> None:
    with pool.sharing(tmp_path) as submit:
        futures = [submit(squared, number) for number in range(12)]
        assert [f.result(60) for f in futures] == [n**2 for n in range(12)]
    assert (tmp_path / "grave").exists()
    ran = [path.name.split("-") for path in tmp_path.iterdir() if path.name != "grave"]
    assert {int(number) for number, *_ in ran} == {*range(12)}
    if isinstance(pool, Processes):
        assert len(ran) == 12, "tasks of other workers were done again"
        assert str(os.getpid()) not in {process for _, process, _ in ran}


def test_what_work_raises_is_raised_here(pool: Pool, tmp_path: Path) -> None:
    with pool.sharing(tmp_path) as submit:
        one, other = submit(failing, 7), submit(squared, 7)
        with pytest.raises(ModelError, match="number 7 is not liked"):
            one.result(60)
        assert other.result(60) == 49


def test_an_error_that_no_other_process_can_read_is_told_by_its_text(tmp_path: Path) -> None:
    with Processes(1).sharing(tmp_path) as submit:
        unread, unsent = submit(failing_unread, 7), submit(failing_unsent, 8)
        with pytest.raises(RuntimeError, match="Unread: gemm1 does not like 7"):
            unread.result(60)
        with pytest.raises(RuntimeError, match="ValueError: a lock dislikes 8"):
            unsent.result(60)


def test_a_task_that_ends_every_worker_is_given_up(tmp_path: Path) -> None:
    with Processes(2).sharing(tmp_path) as submit:
        lost, done = submit(dying, 1), submit(squared, 2)
        with pytest.raises(WorkLost):
            lost.result(60)
        assert done.result(60) == 4


def test_without_a_scheduler_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("refine.process.cluster._PATIENCE", 0.5)
    with (
        pytest.raises(ModelError, match="--cluster"),
        Cluster("tcp://127.0.0.1:9").sharing(None),
    ):
        pass


def test_a_cluster_is_asked_of_its_library_even_where_nothing_is_to_share(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    model = small_models.mlp(tmp_path / "m.onnx", widths=(2, 3, 1))
    with pytest.raises(ModelError, match="--cluster needs the library distributed"):
        bound(model, (-1, 1), cluster="127.0.0.1:9", no_search=True, conform=False)


@dataclass(frozen=True)
class Mortal(Network):
    """A network, bounding which ends one of the workers in the middle, if it is not at home."""

    home: int = 0
    grave: Path = Path()

    @property
    def batches(self) -> Batches | None:
        if os.getpid() != self.home:
            (self.grave.parent / f"call-{time.monotonic_ns()}").touch()
            if len([*self.grave.parent.glob("call-*")]) > 3:
                die_once(self.grave)
        return super().batches


def largest(errors: Mapping[str, FloatArray]) -> float:
    return max(float(np.max(e)) for e in errors.values())


def split(problem: Network, pool: Pool) -> Split:
    graph = problem.graph
    (name,) = graph.inputs
    shape = graph.types[name].shape
    box = InputBox(
        {name: Interval(np.full(shape, -1.0), np.full(shape, 0.75))}, {name: np.zeros(shape)}
    )
    whole = part_of(box, network_bounds(graph, box, SEQUENTIAL))
    enough, deadline = 0.25 * largest(whole.errors), time.monotonic() + 120.0
    found = split_box(problem, whole, excess=largest, enough=enough, deadline=deadline, pool=pool)
    assert covers(box, found.parts)
    assert max(largest(part.errors) for part in found.parts) <= enough
    return found


Parts = list[tuple[float, ...]]


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    path = tmp_path_factory.mktemp("deep") / "deep.onnx"
    return load(small_models.mlp(path, (3, 12, 12, 12, 2), scale=1.5))


@pytest.fixture(scope="module")
def found_here(deep: Graph) -> Parts:
    return parts_found(deep, Here(), Path("unused"))


def parts_found(graph: Graph, pool: Pool, grave: Path) -> Parts:
    """The ends of each part, and its bounds."""
    parts = split(Mortal(graph, SEQUENTIAL, home=os.getpid(), grave=grave), pool).parts
    ends = [p.box.values["x"] for p in parts]
    bounds = [p.errors["y"].ravel() for p in parts]
    return sorted((*x.lo.ravel(), *x.hi.ravel(), *b) for x, b in zip(ends, bounds, strict=True))


def test_the_bound_is_the_same_whoever_finds_it(
    deep: Graph, found_here: Parts, pool: Pool, tmp_path: Path
) -> None:
    there = parts_found(deep, pool, tmp_path / "grave")
    assert (tmp_path / "grave").exists(), "no worker was killed"
    assert len(found_here) > 16
    np.testing.assert_allclose(np.array(there), np.array(found_here), rtol=1e-12)
