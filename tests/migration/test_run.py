"""Whole migrations of a small tree, on two workers of this machine: what is written, what is recorded, what a further run does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

import converters
from converters.cli import main
from tests.conformance import FIXTURES, cases
from tests.migration import singles
from tests.migration.test_discovery import net, weights, write

pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("distributed")

DIGITS = FIXTURES / "digits"
slow = pytest.mark.skipif("CONVERTERS_MIGRATION" not in os.environ, reason="CONVERTERS_MIGRATION isn't set: runs that take a minute")
PLUGIN = '''
import os
import time

from converters.readers.caffe import lowers

@lowers("Eats")
def eats(g, layer, x):
    """Takes memory until it is stopped."""
    held = []
    while len(held) < 8_000:
        held.append(b"x" * (1 << 20))
    return x

@lowers("Loops")
def loops(g, layer, x):
    """Never ends."""
    while True:
        time.sleep(0.01)

@lowers("Crashes")
def crashes(g, layer, x):
    """Ends the interpreter."""
    os.kill(os.getpid(), 11)
'''
BAD = ("Eats", "Loops", "Crashes", "Nobody")


def bad_net(kind: str) -> str:
    return net() + f' layer {{ name: "bad" type: "{kind}" bottom: "c" top: "bad" }}'


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Good models of most formats, models that misbehave, broken ones, and other files."""
    folder = tmp_path_factory.mktemp("tree")
    shutil.copytree(DIGITS, folder / "digits", ignore=shutil.ignore_patterns("train", "*.npz", "__pycache__"))
    for case in cases("caffe")[:20]:
        (folder / case.name).mkdir()
        case.write_model(folder / case.name)
    for kind in BAD:
        write(folder / kind, deploy__prototxt=bad_net(kind), m__caffemodel=weights())
    write(folder / "broken", a__prototxt=net(), z__caffemodel=weights()[:-5], b__t7="<html>", c__pth=b"")
    folder.with_name("plugin.py").write_text(PLUGIN)
    folder.with_name("shapes.toml").write_text('"*.t7" = "1x1x16x16"\n"*.params" = {data = "1x1x16x16"}\n"*.pth" = "1x1x16x16"\n')
    return folder


def words(tree: Path, target: Path, *more: str) -> list[str]:
    beside = ["--shapes", str(tree.with_name("shapes.toml")), "--plugin", str(tree.with_name("plugin.py")), "--trust"]
    limits = ["--limit-memory", "600MB", "--limit-time", "8"]
    return ["migrate", str(tree), str(target), "--workers", "2", *beside, *limits, "--no-verify", "--quiet", *more]


def rows(target: Path) -> dict[str, dict]:
    return {row["source"]: row for row in pq.read_table(target / "manifest.parquet").to_pylist()}


@pytest.fixture(scope="module")
def done(tree, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("target")
    assert main(words(tree, target)) == 1
    return target


def test_every_file_of_the_tree_has_a_row(tree, done):
    there = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert {file["path"] for row in rows(done).values() for file in row["files"]} == there


def test_what_misbehaves_is_a_row_and_nobody_else_is_charged(done):
    found = rows(done)
    assert "memory (--limit-memory)" in found["Eats/m.caffemodel"]["reason"]
    assert "longer than 8 seconds" in found["Loops/m.caffemodel"]["reason"]
    assert found["Crashes/m.caffemodel"]["reason"] == "ended its process 3 times: SIGSEGV"
    assert found["Nobody/m.caffemodel"]["layers"] == ["Nobody"]
    wrong = {source: row["status"] for source, row in found.items() if row["status"] not in ("done", "listed")}
    assert wrong == {
        **{f"{kind}/m.caffemodel": "killed" for kind in BAD[:3]},
        "Nobody/m.caffemodel": "unsupported",
        "broken/b.t7": "failed",
        "broken/c.pth": "failed",
        "broken/z.caffemodel": "failed",
        "digits/pytorch/digits_whole.pth": "unsupported",
        "digits/pytorch/digits_whole_legacy.pth": "unsupported",
        "digits/tensorflow/digits.ckpt.index": "failed",
    }


def test_what_is_written_is_what_the_single_commands_write(tree, done):
    compared = list(singles.compare(tree, done, tree.with_name("shapes.toml")))
    assert [path for path, is_same in compared if not is_same] == []
    assert len(compared) >= 3 * 26


def test_nothing_else_is_left_in_the_target(done):
    recorded = {output["path"] for row in rows(done).values() for output in row["outputs"]}
    there = {str(path.relative_to(done)) for path in done.rglob("*") if path.is_file()}
    assert there == recorded | {"manifest.parquet", "report.html"}


def test_the_page_has_every_model_and_no_script_from_elsewhere(done):
    page = (done / "report.html").read_text().replace("<wbr>", "")  # where a long path may go on in another line
    assert "Layers that hold models back" in page
    assert "<td>caffe: Nobody</td>" in page
    assert "src=" not in page and "http" not in page
    for source, row in rows(done).items():
        if row["status"] != "listed":
            assert source in page


def test_a_further_run_converts_nothing(tree, done, capsys):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*.onnx")}
    old = rows(done)
    capsys.readouterr()
    assert main([*words(tree, done)[:-1], "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["worked_on"] == 0
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*.onnx")} == before
    assert rows(done) == old


def test_only_what_is_missing_changed_or_to_be_retried_is_done_again(tree, done, tmp_path, capsys):
    copy, target = tmp_path / "tree", tmp_path / "target"
    shutil.copytree(tree, copy)
    shutil.copytree(done, target)
    for name in ("plugin.py", "shapes.toml"):
        shutil.copy(tree.with_name(name), tmp_path / name)
    good = [case.name for case in cases("caffe")[:20]]
    source = next(row["source"] for row in rows(target).values() if row["source"].startswith(f"{good[0]}/") and row["status"] == "done")
    missing = rows(target)[source]["outputs"][0]["path"]
    (target / missing).unlink()  # missing
    write(copy / "new", a__prototxt=net(), z__caffemodel=weights())  # new
    write(copy / "broken", a__prototxt=net(), z__caffemodel=weights())  # mended
    again = words(copy, target, "--exclude", "Loops/*", "--exclude", "Eats/*", "--retry", "unsupported")
    capsys.readouterr()
    assert main([*(word for word in again if word != "--quiet"), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (target / missing).exists()
    found = rows(target)
    assert found["new/z.caffemodel"]["status"] == found["broken/z.caffemodel"]["status"] == "done"
    assert found["Loops/m.caffemodel"]["status"] == "killed"  # not in this run, still in the manifest
    new = {source for source, row in found.items() if row["finished"] > max(row["finished"] for row in rows(done).values())}
    touched = {source for source in new if found[source]["outputs"] != rows(done).get(source, {}).get("outputs")}
    assert touched >= {"new/z.caffemodel", "broken/z.caffemodel"}
    assert Counter(row["status"] for row in report["rows"])["done"] == Counter(row["status"] for row in rows(done).values())["done"] + 2


def test_a_target_that_holds_something_else(tree, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(words(tree, tmp_path)) == 1
    assert "isn't empty and has no manifest" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_dry_run_writes_nothing(tree, tmp_path, capsys):
    target = tmp_path / "target"
    assert main([*words(tree, target)[:-1], "--dry-run", "--json"]) == 1  # broken ones are known already
    report = json.loads(capsys.readouterr().out)
    assert report["by_status"]["to do"] >= 30
    assert not target.exists()


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=slow), signal.SIGKILL])
def test_a_run_that_is_stopped_goes_on_where_it_was(number, tree, done, tmp_path):
    target = tmp_path / "target"
    more = ["--exclude", "Loops/*", "--exclude", "Eats/*"]
    command = [sys.executable, "-m", "converters", *words(tree, target, *more)]
    process = subprocess.Popen(command, start_new_session=True)
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        journals = [path.read_bytes() for path in target.glob("manifest-*.jsonl")]
        if sum(data.count(b'"status": "done"') for data in journals) >= 3:
            break
        time.sleep(0.005)
    os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
    status = process.wait(60)
    assert status in (-9, 130, 1)  # 1: it was quicker
    recorded = {
        json.loads(line)["source"]
        for path in target.glob("manifest-*.jsonl")
        for line in path.read_bytes().splitlines()
        if b'"status": "done"' in line
    }
    ages = {path: path.stat().st_mtime_ns for source in recorded for path in (target / source).rglob("*") if path.is_file()}
    assert main(words(tree, target, *more)) == 1
    assert {path: path.stat().st_mtime_ns for path in ages} == ages
    plain = {source: row for source, row in rows(done).items() if not source.startswith(("Loops/", "Eats/"))}
    changing = ("seconds", "memory", "finished", "notes")
    for name in changing:
        assert all(name in row for row in plain.values())
    assert {s: {k: v for k, v in row.items() if k not in changing} for s, row in rows(target).items()} == {
        s: {k: v for k, v in row.items() if k not in changing} for s, row in plain.items()
    }
    assert not list(target.glob("*.jsonl")) and not list(target.rglob("*.part"))


@slow
def test_two_runs_on_one_target(tree, done, tmp_path):
    target = tmp_path / "target"
    more = ["--exclude", "Loops/*", "--exclude", "Eats/*", "--exclude", "Crashes/*"]
    command = [sys.executable, "-m", "converters", *words(tree, target, *more)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=240)[1] for process in both]
    assert [process.returncode for process in both] == [1, 1], said
    assert "error" not in "".join(said)
    expected = {s: row["status"] for s, row in rows(done).items() if not s.startswith(("Loops/", "Eats/", "Crashes/"))}
    assert {source: row["status"] for source, row in rows(target).items()} == expected
    for row in rows(target).values():
        for output in row["outputs"]:
            assert (target / output["path"]).read_bytes() == (done / output["path"]).read_bytes()


def test_what_is_verified_says_how_far_apart_it_was(tmp_path):
    report = converters.migrate(DIGITS / "torch7", tmp_path / "out", workers=1, to=["weights"], include=["*.t7"])
    assert report.ok
    assert {row.source: (row.verified, [path.rpartition("/")[2] for path, _ in row.outputs]) for row in report.models} == {
        "digits.t7": (True, ["digits_weights.pth"]),
        "digits_checkpoint.t7": (True, ["digits_checkpoint_weights.pth"]),
    }
    write(tmp_path / "tree", a__prototxt=net(), z__caffemodel=weights())
    proven = converters.migrate(tmp_path / "tree", tmp_path / "proven", workers=1)
    assert proven.ok and [row.difference is not None and row.difference < 1e-4 for row in proven.models] == [True]


@slow
def test_a_cluster_of_separate_processes_that_starts_again(tree, done, tmp_path):
    """The set-up of two machines: a scheduler and workers of their own, which are restarted while the run goes on."""
    target, more = tmp_path / "target", ["--exclude", "Loops/*", "--exclude", "Eats/*"]
    port = 20000 + os.getpid() % 20000
    address = f"tcp://127.0.0.1:{port}"
    start = "import sys; from distributed.cli.dask_{0} import main; main()"
    scheduler = [sys.executable, "-c", start.format("scheduler"), "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = [sys.executable, "-c", start.format("worker"), address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    processes = [subprocess.Popen(scheduler, **silent), subprocess.Popen(worker, **silent)]
    asked = [word for word in words(tree, target, *more) if word not in ("--workers", "2")]
    run = subprocess.Popen([sys.executable, "-m", "converters", *asked, "--scheduler", address], stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and not any(b'"done"' in path.read_bytes() for path in target.glob("manifest-*.jsonl")):
            time.sleep(0.01)
        for process in processes:
            process.kill()
            process.wait()
        processes = [subprocess.Popen(scheduler, **silent), subprocess.Popen(worker, **silent)]
        assert run.wait(240) == 1, run.communicate()
    finally:
        for process in (*processes, run):
            process.kill()
            process.wait()
    expected = {s: row["status"] for s, row in rows(done).items() if not s.startswith(("Loops/", "Eats/"))}
    assert {source: row["status"] for source, row in rows(target).items()} == expected


@slow
def test_the_api_in_a_script(tree, tmp_path):
    """As a user writes it."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import converters
        if __name__ == "__main__":
            report = converters.migrate({str(DIGITS / "caffe")!r}, "out", workers=1, verify=False, to=["onnx"])
            print(report.ok, len(report.models))
        """)
    )
    ran = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=True)
    assert ran.stdout.split() == ["True", "2"], ran.stderr
