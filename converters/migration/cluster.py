"""The tasks of a run on Dask's workers: a few at a time for each, given out again where a worker, or the scheduler, is lost."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from converters import packages
from converters.errors import ConversionError, printable
from converters.migration.conversion import Task
from converters.migration.rows import Row
from converters.migration.worker import lost, run

AHEAD = 3
"""Tasks that are given out for each thread of a worker, so that none waits for the next."""
TRIES = 20
"""Times that a task is given out again where the worker dies, which a model can't cause: it runs in a process of the worker's."""
STORE_TRIES, STARTS = 3, 5
PATIENCE = 600.0
"""Seconds that a scheduler that doesn't answer is waited for."""
LOOK, ABSENCE = 5.0, 45.0
"""Seconds between two looks at who works, and that a worker may be away before another takes its place."""
_TICK = 0.5
_SETTINGS = {
    "distributed.scheduler.allowed-failures": 1000,
    "distributed.scheduler.worker-saturation": 2.0,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.comm.timeouts.connect": "60s",
    "distributed.admin.tick.limit": "60s",
    "distributed.deploy.lost-worker-timeout": "30s",
}


class Cluster:
    """The workers: those of a scheduler that is given, or of one that is started here for the run, as many as `workers`.

    in_process: they are threads of this process, for stores that lie in its memory.
    """

    def __init__(self, workers: int, scheduler: str | None, *, in_process: bool = False) -> None:
        self.workers, self.scheduler, self.in_process = workers, scheduler, in_process
        self.client: Any = None
        self._cluster: Any = None
        self._full = time.monotonic()
        """When all workers of this machine were last there."""
        logging.getLogger("distributed").setLevel(logging.CRITICAL)

    def __enter__(self) -> Cluster:
        packages.require("distributed")
        import dask

        dask.config.set(_SETTINGS)
        if self.scheduler is None:
            self._start()
        self._connect(PATIENCE if self.scheduler is not None else 60.0)
        self._full = time.monotonic()
        return self

    def _start(self) -> None:
        """The workers of this machine. One that dies as it starts takes the others with it: then all are started again."""
        import distributed

        for left in reversed(range(STARTS)):
            try:
                self._cluster = distributed.LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=self.workers,
                    threads_per_worker=1,
                    processes=not self.in_process,
                    memory_limit=0,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
                return
            except (OSError, RuntimeError, TimeoutError) as problem:
                if not left:
                    raise ConversionError(f"the local cluster can't start: {printable(problem, 200)}") from problem

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(Exception):  # what is lost already can't be closed in order
            self.client.close(timeout=2)
        if self._cluster is not None:
            with contextlib.suppress(Exception):
                self._cluster.close(timeout=5)

    def _connect(self, patience: float) -> None:
        import distributed

        if self.client is not None:
            with contextlib.suppress(Exception):
                self.client.close(timeout=1)
        end = time.monotonic() + patience
        while True:
            try:
                self.client = distributed.Client(  # type: ignore[no-untyped-call]
                    self._cluster or self.scheduler, timeout=10, set_as_default=False
                )
                return
            except (OSError, TimeoutError, ValueError) as problem:
                if time.monotonic() > end or isinstance(problem, ValueError):
                    what = f"the scheduler {printable(self.scheduler)} doesn't answer"
                    raise ConversionError(what, hint="start it, then run the same command again: what is done is kept") from problem
                time.sleep(1)

    @property
    def dashboard(self) -> str:
        """The address of Dask's own page."""
        return str(self.client.dashboard_link)

    def threads(self) -> int:
        """How many tasks run at a time; 0 while there is no worker."""
        try:
            return sum(self.client.nthreads().values())
        except (OSError, TimeoutError):
            return 0

    # -- the run -----------------------------------------------------------------------------------------------------------

    def work(self, tasks: Iterable[Task], record: Callable[[Task, Row], None], tick: Callable[[], None]) -> None:
        """Runs all tasks. record: called with each row, in any order; tick: called often, whether something ended or not."""
        waiting = deque((task, 0) for task in tasks)
        running: dict[Any, tuple[Task, int]] = {}
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        looked, threads = 0.0, 0
        while waiting or running:
            if time.monotonic() - looked > LOOK or not threads:
                threads, looked = self.threads(), time.monotonic()
                if self._is_short_of_workers(threads):
                    self._again(running, waiting)
            while waiting and len(running) < max(1, threads) * AHEAD:
                task, tries = waiting.popleft()
                future = self.client.submit(run, task, pure=False, key=f"migrate-{id(task):x}-{time.monotonic_ns():x}")
                running[future] = task, tries
                future.add_done_callback(ended.put)
            tick()
            with contextlib.suppress(queue.Empty):
                self._take(ended.get(timeout=_TICK), running, waiting, record)
                while True:
                    self._take(ended.get_nowait(), running, waiting, record)
            if self.client.status != "running":
                self._again(running, waiting)
                threads = 0

    def _take(self, future: Any, running: dict[Any, tuple[Task, int]], waiting: deque[tuple[Task, int]], record: Any) -> None:
        """What a task that ended has come to."""
        if future not in running:
            return
        task, tries = running.pop(future)
        if future.status == "finished":
            try:
                record(task, future.result(timeout=15))
            except (OSError, TimeoutError):  # the worker went away with it
                waiting.append((task, tries))
            future.release()
            return
        problem = future.exception(timeout=60) if future.status == "error" else None
        if problem is None or type(problem).__name__ == "KilledWorker":
            most, reason = TRIES, f"its worker died {TRIES} times"
        elif isinstance(problem, ConversionError):
            most, reason = STORE_TRIES, str(problem)
        else:
            most, reason = STORE_TRIES, printable(f"{type(problem).__name__}: {problem}", 400)
        if tries + 1 >= most:
            record(task, lost(task, reason))
        else:
            waiting.append((task, tries + (problem is not None)))

    def _is_short_of_workers(self, threads: int) -> bool:
        """Replaces workers of this machine that don't come back; whether all were gone, and the cluster was started anew.

        A worker that is killed starts again; one that is killed while it does so stays away.
        """
        if threads >= self.workers or self._cluster is None:
            self._full = time.monotonic()
        away = time.monotonic() - self._full
        if away > ABSENCE and threads:
            self._cluster.scale(self.workers)
            self._full = time.monotonic()
        if away <= ABSENCE or threads:
            return False
        with contextlib.suppress(Exception):  # what is lost already can't be closed in order
            self._cluster.close(timeout=5)
        self._start()
        self._full = time.monotonic()
        return True

    def _again(self, running: dict[Any, tuple[Task, int]], waiting: deque[tuple[Task, int]]) -> None:
        """The scheduler is gone: waits for it, and gives out again what was on its way."""
        waiting.extendleft(running.values())
        running.clear()
        self._connect(PATIENCE)


def default_workers() -> int:
    """As many as there are cores for this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
