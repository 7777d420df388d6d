"""What a worker of the cluster does with a model: its files are brought here, a child process converts them, the results are brought there.

The worker itself reads no model. Its children are killed where they go beyond a limit, and replaced when they die.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from converters.errors import ConversionError
from converters.migration.conversion import Answer, Task
from converters.migration.rows import Row, files_of
from converters.migration.trees.archives import unpack
from converters.migration.trees.places import Folder, Place, place_at
from converters.packages import __version__

TRIES = 3
"""Times that a model may end its process before it is the model's fault: others kill processes too."""
_START = 300.0
"""Seconds that a child may take to start."""
_POLL = 0.02
_CHILD = "import sys; sys.path[:] = {path!r}; from converters.migration.child import serve; serve()"

_idle: list[Child] = []
_lock = threading.Lock()
_spawner = ThreadPoolExecutor(1)
"""Children die with the thread that started them, so that has to be one which lives on."""
_places: dict[str, Place] = {}


class Child:
    """A warm process. peak: the most anonymous memory it was seen with during the last question; seconds: that it took."""

    def __init__(self, threads: int) -> None:
        self.threads, self.peak, self.seconds = threads, 0, 0.0
        self._imported: set[str] = set()
        environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))}
        environment["CONVERTERS_PARENT"] = str(os.getpid())
        words = [sys.executable, "-c", _CHILD.format(path=[entry or os.getcwd() for entry in sys.path])]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def import_all(self, modules: Sequence[str]) -> None:
        """Lets the process import what it hasn't yet. Raises ConversionError where it can't even do that."""
        for module in modules:
            if module not in self._imported:
                verdict = self.ask(module, _START, 0)
                if not isinstance(verdict, dict):
                    raise ConversionError(f"the process that converts can't start: {verdict}")
                self._imported.add(module)

    def ask(self, question: object, limit_time: float, limit_memory: int) -> dict[str, Any] | str:
        """The answer, or why there is none: "time", "memory", or "died SIGSEGV"."""
        self.peak = 0
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(base64.b64encode(pickle.dumps(question)) + b"\n")
            self.process.stdin.flush()
        except OSError:
            return self._died()
        return self._wait(limit_time, limit_memory)

    def _wait(self, limit_time: float, limit_memory: int) -> dict[str, Any] | str:
        end = time.monotonic() + limit_time
        while True:
            try:
                line = self._answers.get(timeout=_POLL)
            except queue.Empty:
                self.peak = max(self.peak, anonymous_bytes(self.process.pid))
                if limit_memory and self.peak > limit_memory:
                    self.kill()
                    return "memory"
                if time.monotonic() > end:
                    self.kill()
                    return "time"
                continue
            if line is None:
                return self._died()
            try:
                answer: dict[str, Any] = json.loads(line)
            except ValueError:
                return self._died()
            return answer

    def _died(self) -> str:
        self.kill()
        code = self.process.wait()
        if code < 0:
            try:
                return f"died {signal.Signals(-code).name}"
            except ValueError:
                return f"died of signal {-code}"
        return f"died with exit status {code}"

    def kill(self) -> None:
        """Ends the process and whatever it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (OSError, AttributeError):
            self.process.kill()
        self.process.wait()

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None


def anonymous_bytes(pid: int) -> int:
    """The memory of a process that is its own, without mapped files; where the system doesn't tell, all that is resident."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"RssAnon:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    if sys.platform == "linux":
        return 0
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _take(task: Task) -> Child:
    with _lock:
        for child in list(_idle):
            _idle.remove(child)
            if child.is_alive and child.threads == task.threads:
                return child
            child.kill()
    return _spawner.submit(Child, task.threads).result()


def run(task: Task) -> Row:
    """Converts one model. Raises ConversionError where the store fails; what the model does is a row."""
    source, target = _place(task.source), _place(task.target)
    with tempfile.TemporaryDirectory(prefix="converters-") as cache:
        places = _fetch(task, source, cache)
        folder = target.place(task.found.source) if isinstance(target, Folder) else os.path.join(cache, "results")
        limit = task.limit_memory or share_of_memory()
        answer, child = _converted(task, places, folder, limit)
        if not target.is_local:
            for name in answer.outputs:
                target.put(os.path.join(folder, name), f"{task.found.source}/{name}")
        if answer.status != "same":
            for name in set(task.names).difference(answer.outputs):  # of an earlier run, or of a process that was killed
                target.remove(f"{task.found.source}/{name}")
            if target.is_local and not answer.outputs:
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        outputs = [(f"{task.found.source}/{name}", os.path.getsize(os.path.join(folder, name))) for name in answer.outputs]
    found = task.found
    return Row(
        found.source,
        answer.status,
        found.format,
        what=next((file.words for file in found.files if file.path == found.source), ""),
        reason=answer.reason,
        layers=answer.layers,
        files=files_of(found.files, answer.digests),
        paths=list(found.paths),
        archive="" if found.archive is None else found.archive.path,
        weights_only=found.weights_only,
        outputs=outputs,
        key=answer.key,
        options=task.identity,
        verified=answer.verified,
        difference=answer.difference,
        notes=answer.notes,
        seconds=child.seconds,
        memory=child.peak,
        version=__version__,
        finished=now(),
    )


def _converted(task: Task, places: Mapping[str, str], folder: str, limit: int) -> tuple[Answer, Child]:
    """The answer about a model, and the child that had it."""
    verdict = ""
    for _ in range(TRIES):
        child = _take(task)
        child.import_all(task.imports)
        begun = time.monotonic()
        found = child.ask((task, places, folder), task.limit_time, limit)
        child.seconds = round(time.monotonic() - begun, 3)
        if isinstance(found, dict):
            if anonymous_bytes(child.process.pid) > limit // 2:  # what is left behind would be charged to the next model
                child.kill()
            else:
                with _lock:
                    _idle.append(child)
            return Answer(**found), child
        verdict = found
        if found in ("time", "memory"):
            break
    said = {
        "time": f"took longer than {task.limit_time:g} seconds (--limit-time)",
        "memory": f"took more than {limit / 1e9:.2g} GB of memory (--limit-memory)",
    }.get(verdict, f"ended its process {TRIES} times: {verdict.removeprefix('died ')}")
    return Answer("killed", said), child


def _fetch(task: Task, source: Place, cache: str) -> dict[str, str]:
    """The model's files on this machine, by path."""
    found = task.found
    if found.archive is None:
        return {file.path: source.fetch(file.path, os.path.join(cache, "files")) for file in found.files}
    folder = os.path.join(cache, "unpacked")
    inner = {file.path: file.path.removeprefix(f"{found.archive.path}/") for file in found.files}
    unpack(source.fetch(found.archive.path, os.path.join(cache, "files")), found.archive.kind, folder, frozenset(inner.values()))
    return {path: os.path.join(folder, *name.split("/")) for path, name in inner.items()}


def _place(where: str) -> Place:
    if where not in _places:
        _places[where] = place_at(where)
    return _places[where]


def share_of_memory() -> int:
    """What one model of a worker may take: the worker's memory by its threads, else the machine's by its cores."""
    import psutil

    try:
        from distributed import get_worker

        worker = get_worker()
        limit = int(worker.memory_manager.memory_limit or 0) // max(1, worker.state.nthreads)
    except (ImportError, ValueError, AttributeError):
        limit = 0
    return limit or int(psutil.virtual_memory().total * 0.9) // (os.cpu_count() or 1)


def now() -> str:
    """The time, to the microsecond, as text that sorts."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")


def lost(task: Task, reason: str) -> Row:
    """The row of a model that no worker could answer for; a further run tries it again."""
    found = task.found
    files = files_of(found.files)
    return Row(found.source, "lost", found.format, reason=reason, files=files, paths=list(found.paths), version=__version__, finished=now())
