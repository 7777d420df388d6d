"""strip-to-weights on a large whole model: seconds against `cp` of the same file, and memory that isn't file mapping.

python -m tests.benchmarks.strip [--megabytes 550]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.benchmarks.measure import seconds_to_copy


class Block(torch.nn.Module):
    """One layer of the model, of a class that the measured process doesn't have."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(features, features)
        self.norm = torch.nn.BatchNorm1d(features)


def make_model(path: Path, megabytes: int, *, zipped: bool) -> None:
    """A whole model of about that size, pickled with its class."""
    features = 2000
    blocks = max(1, megabytes * 1_000_000 // (4 * features * features))
    model = torch.nn.Sequential(*(Block(features) for _ in range(blocks)))
    torch.save(model, path, _use_new_zipfile_serialization=zipped)


def measure(words: list[str], target: Path, repeats: int = 5) -> tuple[float, float]:
    """(seconds, the best of several; peak anonymous megabytes) of a command that writes target."""
    best, peak = float("inf"), 0.0
    for _ in range(repeats):
        target.unlink(missing_ok=True)
        begun = time.perf_counter()
        child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        while child.poll() is None:
            peak = max(peak, anonymous_megabytes(child.pid))
            time.sleep(0.005)
        best = min(best, time.perf_counter() - begun)
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, words)
    return best, peak


def anonymous_megabytes(pid: int) -> float:
    try:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=550)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for form, zipped in (("zip", True), ("stream", False)):
            source = Path(folder, f"{form}.pth")
            make_model(source, asked.megabytes, zipped=zipped)
            copy = seconds_to_copy(source)
            size = os.path.getsize(source) / 1e6
            for suffix in ("pth", "safetensors"):
                target = Path(folder, f"out.{suffix}")
                seconds, memory = measure([sys.executable, "-m", "converters", "strip-to-weights", str(source), str(target)], target)
                print(
                    f"{form} to {suffix}: {size:.0f} MB in {seconds:.2f} s, {seconds / copy:.2f} times cp ({copy:.2f} s), "
                    f"{(seconds - 0.5) / copy:.2f} times cp after 0.5 s; {memory:.0f} MB besides the mapping"
                )
                target.unlink()
            source.unlink()


if __name__ == "__main__":
    main()
