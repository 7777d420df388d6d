"""Writes every conformance case in seven operator sets, and runs the files on an old and the newest onnxruntime.

    python -m tests.operator_sets [FOLDER] [--only caffe]

Makes a virtual environment for onnxruntime 1.16.3 in FOLDER (default: a temporary one); it takes operator sets up to 19, the installed
one all. Prints a table, written / refused / wrong, for each archive, set and runtime, then what was refused, with ONNX's reason.
Exit status 0 if nothing is wrong, and nothing that is written in set 19 is refused in set 11 or 13 but for a reason that NOT_BEFORE
holds. A part of it runs in the test suite (writers/onnx/test_operator_sets.py).
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import warnings
from pathlib import Path

from tests import conformance
from tests.conformance import ARCHIVES, TYPES
from tests.readers.tensorflow import archive as tensorflow

Case = conformance.Case | tensorflow.Case

OPSETS = (9, 11, 13, 15, 17, 19, 21)
IR_VERSIONS = {9: 4, 11: 6, 13: 7, 15: 8, 17: 8, 19: 9, 21: 10}
"""Of the first ONNX release that has the set: what its runtimes read."""
RUNTIMES = {"1.16.3": (["onnxruntime==1.16.3", "numpy<2"], 19), "newest": ([], 99)}
NOT_BEFORE = ("ONNX has it from set 18 on", "regions of less than one pixel have no other form")
"""What is said of operators that sets 11 and 13 can't say: BitwiseAnd and its like and Col2Im are of set 18, and ONNX has nothing on bits
or columns before; RoiAlign made small regions one pixel wide before set 16."""


def nets(archive: str) -> list[Case]:
    """The cases of an archive that may be converted."""
    if archive == "tensorflow":
        return [case for case in tensorflow.cases() if case.is_graph]
    found = conformance.cases(ARCHIVES[archive], archive)
    return [case for case in found if case.about.get("expect", "convert") != "refuse"]


def write(case: Case, folder: Path) -> dict[int, str] | None:
    """SET.onnx in the folder; what was refused, by set. None where the case may be refused, and is."""
    import converters

    folder.mkdir(parents=True)
    refused = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", converters.ConversionWarning)
        try:
            model = case.load(folder)
        except converters.ConversionError:
            if case.about.get("expect", "convert") == "convert":
                raise
            return None
        for opset in OPSETS:
            try:
                converters.save(model, folder / f"{opset}.onnx", opset=opset)
            except converters.ConversionError as problem:
                refused[opset] = str(problem)
    return refused


def run(case: Case, path: Path) -> str:
    """What is wrong with the file's answers; nothing where they are the framework's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        wanted = session.get_inputs()
        for arrays, expected in case.rounds({value.name: value.shape for value in wanted}):
            feed = {i.name: a.astype(TYPES.get(i.type, a.dtype)) for i, a in zip(wanted, arrays, strict=True)}
            outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))
            found = case.faults(outputs, expected)
            if found:
                return "; ".join(found)
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"[:300]
    return ""


def run_all(folder: Path, newest: int) -> dict[str, str]:
    """{archive/case/set: what is wrong} of every file in the folder ARCHIVE/CASE/SET.onnx that the runtime's sets hold."""
    found = {}
    for archive in sorted(path for path in folder.iterdir() if path.is_dir()):
        by_name = {case.name: case for case in nets(archive.name)}
        for path in sorted(archive.glob("*/*.onnx")):
            if int(path.stem) <= newest:
                found[f"{archive.name}/{path.parent.name}/{path.stem}"] = run(by_name[path.parent.name], path)
    return found


def run_in(runtime: str, written: Path, home: Path) -> dict[str, str]:
    """run_all in the environment of a runtime."""
    requirements, newest = RUNTIMES[runtime]
    python = Path(sys.executable)
    if requirements:
        python = home / f"onnxruntime-{runtime}" / "bin" / "python"
        if not python.exists():
            venv.create(python.parent.parent, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--quiet", *requirements], check=True)
    answer = written / f"{runtime}.json"
    subprocess.run([python, "-m", "tests.operator_sets", "--run", written, "--newest", str(newest), "--answer", answer], check=True)
    result: dict[str, str] = json.loads(answer.read_text())
    return result


def reason(message: str) -> str:
    """A refusal without the place that it names."""
    return re.sub(r"^.*?: (\w+ can't be written)", r"\1", message.splitlines()[0])


def is_explained(message: str) -> bool:
    """Whether a refusal is for a reason that NOT_BEFORE lists."""
    return any(words in message for words in NOT_BEFORE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--only", default="", help="archives whose name holds this")
    for name in ("--run", "--answer"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--newest", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        asked.answer.write_text(json.dumps(run_all(asked.run, asked.newest)))
        return 0
    refused: dict[str, str] = {}
    failed = 0
    print("written / refused / wrong in sets", *OPSETS)
    with tempfile.TemporaryDirectory() as temporary:
        for archive in (*ARCHIVES, "tensorflow"):
            if asked.only in archive:
                written = Path(temporary, "written")
                refusals = {case.name: write(case, written / archive / case.name) for case in nets(archive)}
                found = {f"{archive}/{name}/{opset}": why for name, all_ in refusals.items() for opset, why in (all_ or {}).items()}
                for runtime in RUNTIMES:
                    failed += tell(archive, runtime, run_in(runtime, written, asked.folder or Path(temporary)), list(found))
                refused |= found
                shutil.rmtree(written)
    reasons = collections.Counter((key.rpartition("/")[2], reason(words)) for key, words in refused.items())
    print("\nrefused, with the number of cases:")
    for (opset, words), count in sorted(reasons.items(), key=lambda item: (int(item[0][0]), item[0][1])):
        print(f"  {count:4} in set {opset}: {words}")
    older = [k for k in refused if k.endswith(("/11", "/13")) and k.rsplit("/", 1)[0] + "/19" not in refused]
    unexplained = [key for key in older if not is_explained(refused[key])]
    print(f"\nrefused in set 11 or 13 and written in 19, for no listed reason: {len(unexplained)}", *unexplained[:20], sep="\n  ")
    return int(failed > 0 or len(unexplained) > 0)


def tell(archive: str, runtime: str, answers: dict[str, str], refused: list[str]) -> int:
    """Prints a runtime's line for an archive, and what is wrong; the number of wrong files."""
    wrong = {key: words for key, words in answers.items() if words}
    cells = []
    for opset in OPSETS:
        ours, no, bad = (sum(1 for key in keys if key.endswith(f"/{opset}")) for keys in (answers, refused, wrong))
        cells.append(f"{ours}/{no}/{bad}" if ours else "-")
    print(f"  {archive:16} onnxruntime {runtime:8}", *(f"{cell:>10}" for cell in cells), flush=True)
    for key, words in wrong.items():
        print(f"  wrong: {key}: {words}", flush=True)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
