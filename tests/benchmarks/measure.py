"""How the benchmarks measure: CPU seconds and memory of a whole process, beside `cp` of its input, with the machine's load."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

QUIET = 0.5
"""The load, in processes that run besides for each processor, above which figures aren't to be trusted."""


@dataclass(frozen=True)
class Measured:
    """The least of several runs: CPU and wall seconds; the most of them: megabytes that no file backs, and those of mapped files.

    load: the machine's, in running processes for each processor, before the runs.
    """

    cpu: float
    wall: float
    anonymous: float
    mapped: float
    load: float

    @property
    def is_trusted(self) -> bool:
        return self.load <= QUIET


def load() -> float:
    """Processes that want to run besides what is measured, for each processor, over the last minute; 0 where the system doesn't say."""
    try:
        return max(os.getloadavg()[0] - 1, 0) / (os.cpu_count() or 1)
    except OSError:
        return 0.0


def run(words: Sequence[str], folder: Path, *, repeats: int = 3, status: int = 0) -> Measured:
    """Runs a command in a folder, several times. Raises CalledProcessError where its exit status is another.

    Modules are compiled once and kept, as pip does when it installs them, even where this process is told not to.
    """
    before = load()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    least, wall, anonymous, mapped = float("inf"), float("inf"), 0.0, 0.0
    for _ in range(repeats):
        begun = time.perf_counter()
        child = subprocess.Popen(list(words), cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while True:
            pid, code, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            held = _memory(child.pid)
            anonymous, mapped = max(anonymous, held[0]), max(mapped, held[1])
            time.sleep(0.004)
        wall = min(wall, time.perf_counter() - begun)
        child.returncode = os.waitstatus_to_exitcode(code)
        said = child.stderr.read().decode(errors="replace") if child.stderr else ""
        if child.stderr:
            child.stderr.close()
        if child.returncode != status:
            raise subprocess.CalledProcessError(child.returncode, words, stderr=said)
        least = min(least, usage.ru_utime + usage.ru_stime)
    return Measured(least, wall, anonymous, mapped, before)


def _memory(pid: int) -> tuple[float, float]:
    """Megabytes that no file backs, and of mapped files, that a process has at the moment."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0, 0.0
    found = {name: int(number) / 1024 for name, number in re.findall(r"(RssAnon|RssShmem|RssFile):\s+(\d+)", text)}
    return found.get("RssAnon", 0.0) + found.get("RssShmem", 0.0), found.get("RssFile", 0.0)


def copied(path: Path, *, sync: bool, repeats: int = 3) -> Measured:
    """`cp` of a file in its own folder, and `sync` of the copy where the command that is measured syncs what it writes."""
    target = path.with_name(f"{path.name}.copy")
    line = f"cp {path.name} {target.name}" + (f" && sync {target.name}" if sync else "")
    try:
        return run(["sh", "-c", line], path.parent, repeats=repeats)
    finally:
        target.unlink(missing_ok=True)
