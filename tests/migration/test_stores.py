"""Migrations from and to what fsspec reaches: memory, and S3 as moto plays it (pip install "moto[s3]" flask flask-cors)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import converters
from converters.errors import ConversionError
from converters.migration.manifest import _is_alive, read_manifest
from converters.migration.trees.places import Bucket, Entry, place_at
from tests.migration.test_discovery import net, weights, write
from tests.migration.test_run import slow

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")
pytest.importorskip("distributed")


def put_tree(fs, root: str, models: int = 3) -> None:
    for number in range(models):
        fs.pipe_file(f"{root}/m{number}/net.prototxt", net().encode())
        fs.pipe_file(f"{root}/m{number}/z.caffemodel", weights())
    fs.pipe_file(f"{root}/broken/a.prototxt", net().encode())
    fs.pipe_file(f"{root}/broken/z.caffemodel", weights()[:-5])
    fs.pipe_file(f"{root}/notes.txt", b"words\n")


def expected_files(models: int = 3) -> set[str]:
    names = ("z.onnx", "z.pth", "z.py")
    return {f"m{number}/z.caffemodel/{name}" for number in range(models) for name in names} | {"manifest.parquet", "report.html"}


def below(fs, root: str) -> dict[str, bytes]:
    return {path[len(root) :].lstrip("/"): fs.cat_file(path) for path in fs.find(root)}


def test_which_runs_are_at_work(monkeypatch):
    """A process that may not be signalled is one of another user's; nothing that a journal says is signalled by mistake."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert _is_alive({"pid": os.getpid()}) and not _is_alive({"pid": ended.pid})
    assert not any(_is_alive({"pid": pid}) for pid in (0, -1, 1 << 40, "1", None)) and not _is_alive({})

    def forbidden(pid: int, number: int) -> None:
        assert number == 0
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert _is_alive({"pid": os.getpid()})


def test_in_memory_and_on_from_there(tmp_path):
    fs = fsspec.filesystem("memory")
    put_tree(fs, "/old")
    report = converters.migrate("memory://old", "memory://new", verify=False, workers=2)
    assert report.statuses == {"done": 3, "failed": 1, "listed": 1}
    written = below(fs, "/new")
    assert written.keys() == expected_files()
    write(tmp_path, net__prototxt=net(), z__caffemodel=weights())
    converters.save(converters.load(tmp_path / "net.prototxt", tmp_path / "z.caffemodel"), tmp_path / "z.onnx")
    assert written["m0/z.caffemodel/z.onnx"] == (tmp_path / "z.onnx").read_bytes()
    again = converters.migrate("memory://old", "memory://new", verify=False)
    assert again.worked == 0 and again.statuses == report.statuses
    fs.pipe_file("/old/m1/z.caffemodel", weights() + b"")  # a new stamp, the same bytes
    fs.rm_file("/new/m2/z.caffemodel/z.onnx")
    third = converters.migrate("memory://old", "memory://new", verify=False)
    assert third.worked == 2
    assert below(fs, "/new").keys() == expected_files()
    fs.rm("/old", recursive=True)
    fs.rm("/new", recursive=True)


def test_from_a_bucket_into_a_folder(tmp_path):
    fs = fsspec.filesystem("memory")
    put_tree(fs, "/from", models=1)
    report = converters.migrate("memory://from", tmp_path / "to", verify=False, to=["weights"])
    assert [path for row in report.models for path, _ in row.outputs] == ["m0/z.caffemodel/z_weights.pth"]
    assert (tmp_path / "to/m0/z.caffemodel/z_weights.pth").exists()
    fs.rm("/from", recursive=True)


def test_a_large_remote_file_is_recognized_by_its_ends(tmp_path):
    fs = fsspec.filesystem("memory")
    (tmp_path / "a").mkdir()
    fs.pipe_file("/large/m.safetensors", (100).to_bytes(8, "little") + b"{" + bytes(3 << 20))
    bucket = Bucket("memory://large")
    (entry,) = bucket.entries()
    place, is_whole = bucket.peek(entry, str(tmp_path / "a"))
    assert not is_whole and Path(place).stat().st_size == entry.bytes
    assert Path(place).read_bytes()[:9] == (100).to_bytes(8, "little") + b"{"
    fs.rm("/large", recursive=True)


def test_names_that_no_folder_can_have(monkeypatch):
    bucket = Bucket("memory://odd")
    monkeypatch.setattr(bucket.fs, "find", lambda root, detail: {"/odd/../../x.t7": {"size": 4}}, raising=False)  # as a hostile one lists
    assert list(bucket.entries()) == [Entry("../../x.t7", 0, "", "has a name that no folder can have")]


def test_a_store_that_says_no():
    with pytest.raises(ConversionError, match=r"gcsfs|can't be reached|answers"):
        list(place_at("gs://nobody-has-this/x").entries())


# -- S3 --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3():
    """A server in this process that speaks S3, and its buckets."""
    server = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    pytest.importorskip("flask_cors")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = dict(os.environ)
    os.environ.update(settings)
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    fs.mkdir("old")
    fs.mkdir("new")
    yield fs
    running.stop()
    os.environ.clear()
    os.environ.update(before)


def test_from_s3_to_s3(s3):
    put_tree(s3, "old/tree")
    report = converters.migrate("s3://old/tree", "s3://new/tree", verify=False, workers=2)
    assert report.statuses == {"done": 3, "failed": 1, "listed": 1}
    s3.invalidate_cache()
    assert below(s3, "new/tree").keys() == expected_files()
    assert converters.migrate("s3://old/tree", "s3://new/tree", verify=False).worked == 0


KILLED = """
import os, sys
import fsspec
from converters.migration.trees.places import place_at

place = place_at("s3://new/cut")
parts = []

def count(**_):
    parts.append(1)
    if len(parts) == 3:
        os.kill(os.getpid(), 9)

fsspec.asyn.sync(place.fs.loop, place.fs.set_session)
place.fs.s3.meta.events.register("before-send.s3.UploadPart", count)
place.put(sys.argv[1], "z.onnx")
"""


def test_an_upload_that_is_killed_between_its_parts_is_no_file(s3, tmp_path):
    file = tmp_path / "z.onnx"
    with open(file, "wb") as made:
        made.write(b"begun")
        made.truncate(120_000_000)  # three parts as s3fs cuts them
    ran = subprocess.run([sys.executable, "-c", KILLED, file], timeout=240, check=False)
    assert ran.returncode == -9
    (begun,) = s3.call_s3("list_multipart_uploads", Bucket="new")["Uploads"]
    assert begun["Key"] == "cut/z.onnx"
    s3.invalidate_cache()
    assert not s3.exists("new/cut/z.onnx") and place_at("s3://new/cut").size("z.onnx") is None
    place_at("s3://new/cut").put(str(file), "z.onnx")
    s3.invalidate_cache()
    assert s3.info("new/cut/z.onnx")["size"] == 120_000_000 and s3.cat_file("new/cut/z.onnx", end=5) == b"begun"
    s3.call_s3("abort_multipart_upload", Bucket="new", Key="cut/z.onnx", UploadId=begun["UploadId"])


@slow
def test_an_upload_that_is_interrupted_leaves_nothing(s3, tmp_path):
    """The run is killed while large results are on their way; a further one finishes."""
    import numpy as np

    from tests.readers.caffe.wire import caffemodel

    text = (
        'input: "data" input_dim: 1 input_dim: 4096 input_dim: 1 input_dim: 1 '
        'layer { name: "f" type: "InnerProduct" bottom: "data" top: "f" '
        "inner_product_param { num_output: 5000 bias_term: false } }"
    )
    s3.pipe_file("old/large/net.prototxt", text.encode())
    s3.pipe_file("old/large/z.caffemodel", caffemodel({"f": [np.ones((5000, 4096), np.float32)]}))
    command = [sys.executable, "-m", "converters", "migrate", "s3://old/large", "s3://new/large"]
    command += ["--no-verify", "--workers", "1", "--to", "onnx", "--quiet"]
    process = subprocess.Popen(command, start_new_session=True)
    end = time.monotonic() + 180
    while time.monotonic() < end and process.poll() is None and not s3.call_s3("list_multipart_uploads", Bucket="new").get("Uploads"):
        time.sleep(0.02)
    was_running = process.poll() is None
    os.killpg(process.pid, 9)
    process.wait()
    s3.invalidate_cache()
    there = [path for path in s3.find("new/large") if path.endswith(".onnx")]
    assert there == [] or not was_running
    assert subprocess.run(command, timeout=240, check=False).returncode == 0
    s3.invalidate_cache()
    (row,) = [row for row in read_manifest(place_at("s3://new/large")).values() if row.is_model]
    assert s3.info(f"new/large/{row.outputs[0][0]}")["size"] == row.outputs[0][1] > 80_000_000
