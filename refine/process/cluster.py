"""Workers of a Dask cluster, on whatever machines they run (`distributed`, an optional library).

The scheduler has a task done by another worker where one is lost. What all work shares is
scattered to the workers once, and again only where all that held it are gone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Generic, TypeVar

from onnx_import.errors import ModelError
from refine import __version__
from refine.process.pool import TRIES, Here, Pool, Processes, Submit, WorkLost

_PATIENCE = 10.0  # seconds in which a scheduler and a first worker are to answer
_START = "dask worker ADDRESS --nthreads 1"

Shared = TypeVar("Shared")
Asked = TypeVar("Asked")
Made = TypeVar("Made")


class UnfitWorker(Exception):
    """A worker whose answers are not to be used. Says why."""


@dataclass(frozen=True)
class Cluster:
    """The workers of the scheduler at an address, such as tcp://10.0.0.1:8786, however many.

    Each runs this version of refine, one task at a time. Pickled Python goes both ways: a cluster
    is trusted as this machine is.
    """

    address: str

    @contextmanager
    def sharing(self, shared: Shared) -> Iterator[Submit[Shared]]:
        """Raises ModelError where no such worker answers."""
        distributed = _library()
        with _quiet():
            try:
                client = distributed.Client(
                    self.address, timeout=_PATIENCE, set_as_default=False, name="refine"
                )
            except (OSError, ValueError, TimeoutError) as error:
                raise ModelError(
                    f"--cluster: no Dask scheduler answers at {self.address}; start one with "
                    "dask scheduler, and give the address that it prints"
                ) from error
            try:
                _require_workers(client, self.address)
                crew = _Crew(client, shared)
                try:
                    yield crew.submit
                finally:
                    crew.closing = True
            finally:
                client.close(timeout=_PATIENCE)


def pool_of(workers: int, cluster: str | None) -> Pool:
    """The workers of a cluster, if one is named, or so many on this machine. Raises ModelError
    where the library that a cluster needs is not here, whether or not there is work to share."""
    if cluster is not None:
        _library()
        return Cluster(cluster)
    return Processes(workers) if workers > 1 else Here()


def _library() -> Any:
    try:
        return import_module("distributed")
    except ImportError as error:
        raise ModelError(
            "--cluster needs the library distributed; pip install 'refine-onnx[cluster]'"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """What the library logs of workers that come and go is no part of an answer."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _require_workers(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError as error:
        raise ModelError(
            f"--cluster: the scheduler at {address} has no workers; start some with {_START}"
        ) from error
    try:
        complaints = [client.run_on_scheduler(unfit, __version__)]  # which reads tasks, too
        complaints += client.run(unfit, __version__).values()
    except Exception as error:  # the library's own kinds, and plain ones that quote others
        raise ModelError(
            f"--cluster: refine is not found there ({error}); install it where scheduler and "
            "workers run"
        ) from error
    for complaint in filter(None, complaints):
        raise ModelError(f"--cluster: {complaint}")


def unfit(expected: str) -> str | None:
    """What is wrong with this worker or scheduler; None where it may work."""
    if __version__ != expected:
        return f"refine is {__version__} there and {expected} here; install the same version"
    try:
        threads = import_module("distributed").get_worker().state.nthreads
    except ValueError:  # no worker
        return None
    if threads != 1:
        return f"a worker has {threads} threads, and each task needs its own process: {_START}"
    return None


def done(
    expected: str, work: Callable[[Shared, Asked], Made], shared: Shared, asked: Asked
) -> Made:
    """What a worker does of a task. Workers that came later are looked at, too.

    Raises UnfitWorker.
    """
    complaint = unfit(expected)
    if complaint is not None:
        raise UnfitWorker(complaint)
    return work(shared, asked)


@dataclass
class _Crew(Generic[Shared]):
    """Sends tasks, and sends them again where what is shared was lost with its workers."""

    client: Any
    shared: Shared
    closing: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    held: Any = None

    def submit(self, work: Callable[[Shared, Asked], Made], asked: Asked, /) -> Future[Made]:
        future: Future[Made] = Future()
        self._send(future, work, asked, TRIES)
        return future

    def _send(
        self,
        future: Future[Made],
        work: Callable[[Shared, Asked], Made],
        asked: Asked,
        tries: int,
    ) -> None:
        held = self._held()
        task = self.client.submit(done, __version__, work, held, asked, pure=False)

        def hear(task: Any) -> None:
            if self.closing:
                return
            if task.cancelled() and tries > 1:
                with self.lock:
                    if self.held is held:
                        self.held = None
                self._send(future, work, asked, tries - 1)
                return
            if not future.set_running_or_notify_cancel():
                return
            try:
                made = task.result()
            except UnfitWorker as error:
                future.set_exception(ModelError(f"--cluster: {error}"))
            except Exception as error:
                lost = isinstance(error, (CancelledError, *_lost()))
                future.set_exception(WorkLost(str(error)) if lost else error)
            else:
                future.set_result(made)

        task.add_done_callback(hear)

    def _held(self) -> Any:
        """What is shared, where workers have it."""
        with self.lock:
            if self.held is None:
                self.held = self.client.scatter(self.shared, broadcast=True, hash=False)
            return self.held


def _lost() -> tuple[type[Exception], ...]:
    """What the library raises of a task that ended its workers, or the scheduler."""
    library = import_module("distributed")
    return (library.scheduler.KilledWorker, library.comm.CommClosedError)
