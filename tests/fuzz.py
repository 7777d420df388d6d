"""Feeds every reader with mutated files, guided by the code that they reach: each is read or refused with a ConversionError.

    pip install atheris && python -m tests.fuzz FOLDER [--only pickle] [--seconds 600]

Each kind of file has a process and a folder of its own: FOLDER/KIND/corpus grows from the small files of fixtures/ and is taken up again
by the next run; what went wrong is kept in FOLDER/KIND/found with its traceback in found.txt. A pickle stands in a checkpoint whose
storages have the sizes that it asks for, so that what lies behind that check is reached too. Prints how many were read, refused, slow
(over 20 s of the processor) and wrong; exit status 0 if none was slow or wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:  # it has wheels for some Pythons alone
    atheris = None

with atheris.instrument_imports(include=["converters"]) if atheris else contextlib.nullcontext():
    import converters
    import converters.readers.caffe.hdf5
    import converters.readers.caffe.lowering
    import converters.readers.mxnet.lowering
    import converters.readers.onnx.reader
    import converters.readers.pytorch.contents
    import converters.readers.pytorch.modules
    import converters.readers.safetensors
    import converters.readers.tensorflow.checkpoints
    import converters.readers.tensorflow.lowering
    import converters.readers.torch7.lowering
    import converters.readers.torch7.weights
    from converters.readers.pytorch.archives.stream import nested_storage
    from converters.readers.pytorch.pickles.interface import Budget
    from converters.readers.pytorch.pickles.machine import Unpickler
    from converters.readers.pytorch.storages import TypedStorage, storage_dtype
    from converters.readers.pytorch.tensors import tensor_rules
    from converters.tensors.storage import Storage

import numpy as np
import onnx_ir as ir

from tests.conformance import FIXTURES, cases
from tests.readers.tensorflow import archive as tensorflow

LONGEST = 16_384
"""Bytes of a mutated file."""
SECONDS = 20
DIGITS = FIXTURES / "digits"


@dataclass(frozen=True)
class Kind:
    """A kind of file. suffix: of the file; seeds: files to begin with; read: what is done with one."""

    suffix: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], Any]


def of_cases(framework: str, *names: str) -> Callable[[], list[bytes]]:
    """The files of these names in the conformance cases of a framework."""
    return lambda: [case.read(name) for case in cases(framework) for name in names if name in case.files]


@functools.cache
def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for what stands beside mutated files; it goes with the process."""
    return tempfile.TemporaryDirectory(prefix="converters_fuzz_")


def beside(framework: str, case: str, name: str) -> Path:
    """One case's file, beside which another is mutated."""
    path = Path(scratch().name, name)
    if not path.exists():
        path.write_bytes(next(found for found in cases(framework) if found.name == case).read(name))
    return path


def onnx_files() -> list[bytes]:
    """Small conformance nets as this package writes them."""
    found = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in cases("torch7")[::4]:
            with contextlib.suppress(converters.ConversionError):
                model = converters.load(*case.write_model(Path(folder)), inputs=case.shapes())
                converters.save(model, Path(folder) / "net.onnx", force=True)
                found.append((Path(folder) / "net.onnx").read_bytes())
    return found


def checkpoints() -> list[bytes]:
    """Modules and state_dicts as torch writes them today, and as it did before 1.6."""
    import torch
    from torch import nn

    modules = [
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(2, 3)),
        nn.LSTM(2, 2, bidirectional=True),
        nn.ModuleDict({"a": nn.Embedding(3, 2), "b": nn.MultiheadAttention(2, 1)}),
    ]
    optimizer = torch.optim.Adam(modules[0].parameters())
    things = [*modules, *(module.state_dict() for module in modules), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)).state_dict()]
    things.append({"state_dict": modules[0].state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "mean": np.ones(3)})
    things.append({"half": torch.ones(2).half(), "view": torch.arange(6).reshape(2, 3).t(), "sparse": torch.eye(2).to_sparse()})
    found = []
    for thing in things:
        for zipped in (True, False):
            stream = io.BytesIO()
            torch.save(thing, stream, _use_new_zipfile_serialization=zipped)
            found.append(stream.getvalue())
    return found


def pickles() -> list[bytes]:
    """The pickles within those checkpoints."""
    found = []
    for data in checkpoints():
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                found += [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
    return found


def storages(index: bytes) -> dict[str, bytes]:
    """What a pickle asks for: zeros for each storage, as many as it says."""
    found: dict[str, bytes] = {}

    def persistent(identity: Any) -> Any:
        _, cls, key, _, count = identity[:5]
        element, untyped = storage_dtype(cls)
        found[str(key)] = bytes(min(max(int(count), 0), 1 << 16) * element.itemsize)
        return TypedStorage(Storage(memoryview(found[str(key)])), element, int(count), untyped=untyped, big_endian=False)

    budget = Budget(len(index))
    with contextlib.suppress(Exception):
        Unpickler(index, tensor_rules(persistent, nested_storage(budget)), budget=budget).load()
    return found


def read_pickle(path: Path) -> Any:
    """Puts the pickle into a checkpoint that has the storages it asks for."""
    index = path.read_bytes()
    whole = path.with_suffix(".pth")
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("archive/data.pkl", index)
        for key, data in list(storages(index).items())[:64]:
            with contextlib.suppress(ValueError, UnicodeError):  # a name that no zip takes
                archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
    return weights(whole)


def weights(path: Path) -> Any:
    """Reads all numbers of all weights."""
    return [np.asarray(tensor).shape for tensor in converters.load_weights(path).values()]


def loaded(*beside: Path, first: bool = True, inputs: Any = None) -> Callable[[Path], ir.Model]:
    """Loads the file with what lies beside it, as the first of the files or the last."""
    return lambda path: converters.load(*((path, *beside) if first else (*beside, path)), inputs=inputs)


IMAGE = {"": (1, 3, 8, 8)}
KINDS: dict[str, Callable[[], Kind]] = {
    "prototxt": lambda: Kind(".prototxt", of_cases("caffe", "net.prototxt"), loaded(beside("caffe", "conv_rect", "net.caffemodel"))),
    "caffemodel": lambda: Kind(
        ".caffemodel", of_cases("caffe", "net.caffemodel"), loaded(beside("caffe", "conv_rect", "net.prototxt"), first=False)
    ),
    "caffe-weights": lambda: Kind(".caffemodel", of_cases("caffe", "net.caffemodel"), weights),
    "caffe-hdf5": lambda: Kind(".h5", of_cases("caffe", "net.caffemodel.h5"), weights),
    "t7": lambda: Kind(".t7", of_cases("torch7", "model.t7"), loaded(inputs=IMAGE)),
    "t7-weights": lambda: Kind(".t7", of_cases("torch7", "model.t7"), weights),
    "symbol": lambda: Kind(
        ".json",
        of_cases("mxnet", "net-symbol.json"),
        loaded(beside("mxnet", "conv_defaults", "net-0000.params"), inputs={"data": (1, 3, 8, 8)}),
    ),
    "params": lambda: Kind(".params", of_cases("mxnet", "net-0000.params"), weights),
    "onnx": lambda: Kind(".onnx", onnx_files, loaded()),
    "checkpoint": lambda: Kind(".pth", checkpoints, weights),
    "pickle": lambda: Kind(".pkl", pickles, read_pickle),
    "tensorflow-graph": lambda: Kind(".pb", of_cases_of_tensorflow("graph.pb"), loaded()),
    "tensorflow-meta": lambda: Kind(".meta", of_cases_of_tensorflow("model.meta"), within("meta_checkpoint", "model.meta", loads_meta)),
    "tensorflow-saved": lambda: Kind(
        ".pb",
        of_cases_of_tensorflow("saved_model.pb"),
        within("saved_model_default_outputs", "saved_model/saved_model.pb", lambda path: converters.load(path.parent)),
    ),
    "tensorflow-index": lambda: Kind(".index", of_cases_of_tensorflow("model.ckpt.index"), within("v2_basic", "model.ckpt.index", weights)),
    "tensorflow-v1": lambda: Kind(".ckpt", of_cases_of_tensorflow("model.ckpt"), weights),
    "safetensors": lambda: Kind(".safetensors", safetensors_files, weights),
}
"""Made when one is asked for, in the process that mutates it."""


def of_cases_of_tensorflow(name: str) -> Callable[[], list[bytes]]:
    """Files of this name in TensorFlow's archive, whose cases lie in folders."""

    def seeds() -> list[bytes]:
        archive = tensorflow.archive()
        return [archive.read(path) for path in archive.namelist() if path.rpartition("/")[2] == name]

    return seeds


def within(name: str, file: str, read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Reads a file in the place of one of a case of TensorFlow's, among that case's others."""
    place = tensorflow.Case(name).unpack(Path(scratch().name)) / file

    def in_its_place(path: Path) -> Any:
        place.write_bytes(path.read_bytes())
        return read(place)

    return in_its_place


def loads_meta(path: Path) -> ir.Model:
    return converters.load(path, path.with_name("model.ckpt"), outputs=tensorflow.Case("meta_checkpoint").about["outputs"])


def safetensors_files() -> list[bytes]:
    """Two tensors, and what a header may say besides."""
    header = {"__metadata__": {"a": "b"}, "w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    header["h"] = {"dtype": "F16", "shape": [3], "data_offsets": [16, 22]}
    text = json.dumps(header).encode()
    return [len(text).to_bytes(8, "little") + text + bytes(22)]


class Slow(BaseException):
    """More than 20 seconds of the processor went by."""


class Feeder:
    """Takes what the fuzzer makes up, reads it, and counts."""

    def __init__(self, kind: Kind, home: Path) -> None:
        self.kind, self.home = kind, home
        self.counts: Counter[str] = Counter()
        self.seen: set[str] = set()
        self.path = Path("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()) / f"fuzz_{os.getpid()}{kind.suffix}"
        self.reported = 0.0
        (home / "found").mkdir(parents=True, exist_ok=True)
        signal.signal(signal.SIGPROF, self._alarm)

    def _alarm(self, *_: Any) -> None:
        raise Slow

    def __call__(self, data: bytes) -> None:
        self.path.write_bytes(data)
        try:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                self.kind.read(self.path)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            self.counts["read"] += 1
        except converters.ConversionError:
            self.counts["refused"] += 1
        except (Exception, Slow) as problem:
            self._keep("slow" if isinstance(problem, Slow) else "wrong", problem, data)
        if time.monotonic() > self.reported + 2:
            self.report()

    def _keep(self, verdict: str, problem: BaseException, data: bytes) -> None:
        self.counts[verdict] += 1
        ours = [frame for frame in traceback.extract_tb(problem.__traceback__) if "/converters/" in frame.filename][-1:]
        place = f"{type(problem).__name__} at {ours[0].filename}:{ours[0].lineno}" if ours else type(problem).__name__
        if place not in self.seen:
            self.seen.add(place)
            kept = self.home / "found" / f"{verdict}_{hashlib.sha1(data).hexdigest()[:12]}{self.kind.suffix}"
            kept.write_bytes(data)
            with (self.home / "found.txt").open("a") as log:
                log.write(f"{kept.name}: {place}\n{''.join(traceback.format_exception(problem))[-3000:]}\n")

    def report(self) -> None:
        self.reported = time.monotonic()
        (self.home / "counts.json").write_text(json.dumps(self.counts))


def feed(name: str, home: Path, seconds: int) -> None:
    """Fuzzes one kind in this process until the time is up; libFuzzer ends the process."""
    warnings.simplefilter("ignore")
    kind = KINDS[name]()
    (home / "corpus").mkdir(parents=True, exist_ok=True)
    for data in kind.seeds():
        if len(data) <= LONGEST:
            (home / "corpus" / hashlib.sha1(data).hexdigest()).write_bytes(data)
    feeder = Feeder(kind, home)
    with atheris.instrument_imports(include=["converters"]):  # topics are imported by what needs them first
        for path in sorted((home / "corpus").iterdir(), key=lambda path: path.stat().st_size)[:20]:
            feeder(path.read_bytes())
    feeder.report()
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-rss_limit_mb=4000", "-timeout=60", "-verbosity=0", "-close_fd_mask=3"]
    atheris.Setup([sys.argv[0], str(home / "corpus"), *limits, f"-artifact_prefix={home}/found/"], feeder)
    atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=KINDS, action="append")
    parser.add_argument("--seconds", type=int, default=600, help="for each kind")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if atheris is None:
        parser.error("pip install atheris")
    if asked.here:
        feed(asked.only[0], asked.folder / asked.only[0], asked.seconds)
        return 0
    totals: Counter[str] = Counter()
    for name in asked.only or KINDS:
        home = asked.folder / name
        words = [sys.executable, "-m", "tests.fuzz", str(asked.folder), "--only", name, "--seconds", str(asked.seconds), "--here"]
        ended = subprocess.run(words, check=False, capture_output=True)
        counts = Counter(json.loads((home / "counts.json").read_text()) if (home / "counts.json").exists() else {})
        if ended.returncode:  # it ran out of memory, or the interpreter itself broke: libFuzzer keeps the file in found/
            counts["wrong"] += 1
        totals += counts
        print(f"{name:18}", *(f"{verdict} {counts[verdict]:8}" for verdict in ("read", "refused", "slow", "wrong")), flush=True)
    print("in all", sum(totals.values()), dict(totals))
    return 1 if totals["slow"] or totals["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
