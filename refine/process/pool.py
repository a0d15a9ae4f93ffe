"""Where independent work is done: here, in processes of this machine, or on other machines.

One protocol stands above all of them. What all of the work shares goes to each worker once, a task
carries only what it is about, and what comes back is what was made of that: data flows one way. A
worker that is killed costs the tasks that it had, which others do again.
"""

from __future__ import annotations

import os
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from gpu_check.common.children import start_worker
from gpu_check.common.detached import DetachedContext

TRIES = 3  # workers that a task may cost
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")

Shared = TypeVar("Shared")
Sharing = TypeVar("Sharing", covariant=True)  # what takes it is taken in turn
Asked = TypeVar("Asked")
Made = TypeVar("Made")


class WorkLost(Exception):
    """A task that no worker lives to finish; where memory is short, say."""


class Submit(Protocol[Sharing]):
    """Has something made of what all work shares and of what is asked, at some time.

    The future raises what the work raises, and WorkLost where it ended its workers. Tasks are
    finished in any order.
    """

    def __call__(self, work: Callable[[Sharing, Asked], Made], asked: Asked, /) -> Future[Made]: ...


class Pool(Protocol):
    """Workers. They are given functions of modules, and what can be pickled."""

    def sharing(self, shared: Shared) -> AbstractContextManager[Submit[Shared]]:
        """Workers that know this. What is not finished at the end is abandoned."""
        ...


@dataclass(frozen=True)
class Here:
    """Does work at once, in this process."""

    @contextmanager
    def sharing(self, shared: Shared) -> Iterator[Submit[Shared]]:
        def submit(work: Callable[[Shared, Asked], Made], asked: Asked) -> Future[Made]:
            future: Future[Made] = Future()
            future.set_result(work(shared, asked))
            return future

        yield submit


@dataclass(frozen=True)
class Processes:
    """Processes of this machine, started as there is work for them; each uses one processor."""

    count: int

    @contextmanager
    def sharing(self, shared: Shared) -> Iterator[Submit[Shared]]:
        before = {name: os.environ.get(name) for name in _THREADS}
        os.environ.update(dict.fromkeys(_THREADS, "1"))  # read by the workers as they start
        staff: _Staff[Shared] = _Staff(pickle.dumps(shared, pickle.HIGHEST_PROTOCOL), self.count)
        try:
            yield staff.submit
        finally:
            staff.close()
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


_Task: TypeAlias = tuple[Future[Any], bytes]


@dataclass
class _Staff(Generic[Shared]):
    """A thread for each process, which hands it tasks and starts another one in its place where it
    is gone. `shared` is pickled."""

    shared: bytes
    count: int
    tasks: SimpleQueue[_Task | None] = field(default_factory=SimpleQueue)
    threads: list[threading.Thread] = field(default_factory=list)
    processes: set[BaseProcess] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: bool = False

    def submit(self, work: Callable[[Shared, Asked], Made], asked: Asked, /) -> Future[Made]:
        future: Future[Made] = Future()
        self.tasks.put((future, pickle.dumps((work, asked), pickle.HIGHEST_PROTOCOL)))
        if len(self.threads) < self.count:
            thread = threading.Thread(target=self._attend, daemon=True)
            self.threads.append(thread)
            thread.start()
        return future

    def close(self) -> None:
        """End the processes, whatever they do."""
        with self.lock:
            self.closing = True
            for process in self.processes:
                process.kill()
        for _ in self.threads:
            self.tasks.put(None)
        for thread in self.threads:
            thread.join()

    def _attend(self) -> None:
        worker: _Worker | None = None
        try:
            while (task := self.tasks.get()) is not None:
                future, message = task
                if self.closing or not future.set_running_or_notify_cancel():
                    continue
                worker = self._done(future, message, worker)
        finally:
            self._dismiss(worker)

    def _done(self, future: Future[Any], message: bytes, worker: _Worker | None) -> _Worker | None:
        """Have a task done; the worker that is left for the next one."""
        for _ in range(TRIES):
            try:
                worker = worker or self._hired()
                worker.connection.send_bytes(message)
                fine, made = worker.connection.recv()
            except (EOFError, OSError):  # it is gone
                self._dismiss(worker)
                worker = None
                if self.closing:
                    break
            except Exception as error:  # what it sent cannot be read
                future.set_exception(error)
                return worker
            else:
                if fine:
                    future.set_result(made)
                else:
                    future.set_exception(made)
                return worker
        future.set_exception(WorkLost(f"a task ended {TRIES} worker processes"))
        return None

    def _hired(self) -> _Worker:
        ours, theirs = DetachedContext().Pipe()
        with self.lock:  # while one starts, the script is out of sight
            if self.closing:
                raise EOFError
            process = DetachedContext().Process(
                target=serve, args=(theirs, os.getpid()), daemon=True
            )
            process.start()
            self.processes.add(process)
        theirs.close()
        ours.send_bytes(self.shared)
        return _Worker(process, ours)

    def _dismiss(self, worker: _Worker | None) -> None:
        if worker is None:
            return
        worker.connection.close()
        worker.process.kill()
        worker.process.join()
        with self.lock:
            self.processes.discard(worker.process)


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    connection: Connection


def _sent(error: Exception) -> Exception:
    """The error as another process can read it: not every one survives being pickled."""
    told = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in a worker process:\n{told}")
    return error


def serve(connection: Connection, parent: int) -> None:
    """What a worker process does: hear what is shared, then make something of each task."""
    start_worker(parent)
    with suppress(EOFError, OSError):
        shared = connection.recv()
        while True:
            work, asked = connection.recv()
            try:
                outcome = True, work(shared, asked)
            except Exception as error:
                outcome = False, _sent(error)
            connection.send(outcome)
