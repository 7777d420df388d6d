"""Kills workers, the processes in which they convert, and the run itself, at random; the manifest is that of a run in peace.

    python -m tests.migration.kills SOURCE TARGET PEACEFUL [--kills 20] [--clients 2] [words of convert migrate]

SOURCE is a tree (tests.migration.tree), PEACEFUL the target of a run with the same words that nobody disturbed. Whenever some models have
ended, a process of the run gets SIGKILL; `--clients` times that is the run itself, which is then started again. What was recorded as done
by then is not converted again. Says what differs in the end, and returns 1 where anything does.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq

CHANGING = ("seconds", "memory", "finished")


def main() -> int:
    """Runs, kills, compares."""
    parser = argparse.ArgumentParser()
    for name in ("source", "target", "peaceful"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--between", type=int, default=40, help="models that end between two kills, at least")
    asked, words = parser.parse_known_args()
    command = [sys.executable, "-m", "converters", "migrate", str(asked.source), str(asked.target), "--quiet", *words]
    chance, killed, clients, before = random.Random(0), {"worker": 0, "child": 0}, 0, 0
    ages: dict[Path, int] = {}
    run = subprocess.Popen(command)
    while run.poll() is None:
        time.sleep(chance.uniform(0.2, 1.0))
        done, total = len(recorded(asked.target)), sum(killed.values())
        if not done or done < before + asked.between or (total >= asked.kills and clients >= asked.clients):
            continue
        before = done
        if clients < asked.clients and total >= (clients + 1) * asked.kills // (asked.clients + 1):
            for process in [*psutil.Process(run.pid).children(recursive=True), psutil.Process(run.pid)]:
                kill(process)
            run.wait()
            clients += 1
            ages |= {path: path.stat().st_mtime_ns for source in recorded(asked.target) for path in (asked.target / source).iterdir()}
            run = subprocess.Popen(command)
        else:
            kind, process = choose(run.pid, chance)
            if process is not None and kill(process):
                killed[kind] += 1
    print(f"killed {killed}, the run {clients} times; it ended with status {run.returncode}")
    return compare(asked.target, asked.peaceful, ages)


def recorded(target: Path) -> set[str]:
    """What journals say is done."""
    found = set()
    for journal in target.glob("manifest-*.jsonl"):
        for line in journal.read_bytes().splitlines():
            if b'"status": "done"' in line:
                found.add(json.loads(line)["source"])
    return found


def choose(pid: int, chance: random.Random) -> tuple[str, psutil.Process | None]:
    """A process of the run: one that converts, or a worker."""
    found: dict[str, list[psutil.Process]] = {"child": [], "worker": []}
    for process in psutil.Process(pid).children(recursive=True):
        try:
            words = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if "migration.child" in words:
            found["child"].append(process)
        elif "spawn_main" in words:
            found["worker"].append(process)
    kind = chance.choice(["child", "worker"])
    return kind, chance.choice(found[kind]) if found[kind] else None


def kill(process: psutil.Process) -> bool:
    """Whether the process was there to be killed."""
    try:
        process.kill()
    except psutil.Error:
        return False
    return True


def compare(target: Path, peaceful: Path, ages: dict[Path, int]) -> int:
    """Says what differs from the run in peace, and what was converted twice."""
    ours, theirs = rows(target), rows(peaceful)
    differing = [source for source in {**ours, **theirs} if ours.get(source) != theirs.get(source)]
    again = [str(path) for path, age in ages.items() if not path.exists() or path.stat().st_mtime_ns != age]
    outputs = {output["path"] for row in ours.values() for output in row["outputs"]}
    there = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    unequal = [path for path in outputs if (target / path).read_bytes() != (peaceful / path).read_bytes()]
    left = there - outputs - {"manifest.parquet", "report.html"}
    print(f"{len(ours)} rows, {len(outputs)} files; rows that differ: {differing[:5]}; converted twice: {again[:5]} of {len(ages)}")
    print(f"files that differ: {unequal[:5]}; left behind: {sorted(left)[:5]}")
    return int(bool(differing or again or left or unequal))


def rows(target: Path) -> dict[str, dict]:
    """The manifest, without times."""
    found = pq.read_table(target / "manifest.parquet").to_pylist()
    return {row["source"]: {name: value for name, value in row.items() if name not in CHANGING} for row in found}


if __name__ == "__main__":
    sys.exit(main())
