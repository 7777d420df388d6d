"""How the benchmarks measure: a command against `cp` of its input in the same run, and the memory that it took."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path


def seconds_to_copy(path: Path, repeats: int = 3) -> float:
    """Seconds of `cp` of the file onto the same disk, the best of several."""
    with tempfile.TemporaryDirectory(dir=path.parent if os.access(path.parent, os.W_OK) else None) as folder:
        best = float("inf")
        for n in range(repeats):
            begun = time.perf_counter()
            subprocess.run(["cp", path, Path(folder, f"copy{n}")], check=True)
            best = min(best, time.perf_counter() - begun)
        return best


def run(words: Sequence[str], repeats: int = 3) -> tuple[float, float]:
    """(seconds, the best of several; peak resident megabytes) of a command; raises CalledProcessError if it fails."""
    best, peak = float("inf"), 0.0
    for _ in range(repeats):
        begun = time.perf_counter()
        child = subprocess.Popen(list(words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, status, usage = os.wait4(child.pid, 0)
        best = min(best, time.perf_counter() - begun)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            error = child.stderr.read().decode() if child.stderr else ""
            raise subprocess.CalledProcessError(child.returncode, words, stderr=error)
        peak = max(peak, usage.ru_maxrss / 1024)
    return best, peak
