"""Writes every conformance case in seven operator sets, and runs the files on an old and the newest onnxruntime.

    python -m tests.operator_sets [FOLDER] [--only caffe]

Makes a virtual environment for onnxruntime 1.16.3 in FOLDER (default: a temporary one); it takes operator sets up to 19, the installed
one all. Prints a table, written / refused / wrong, for each framework, set and runtime, then what was refused, with ONNX's reason.
Exit status 0 if nothing is wrong, and nothing that is written in set 19 is refused in set 11 or 13 but for a reason that NOT_BEFORE
holds. A part of it runs in the test suite (writers/onnx/test_operator_sets.py).
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import subprocess
import sys
import tempfile
import venv
import warnings
from pathlib import Path

from tests.conformance import FILES, Case, arrange, cases, faults

OPSETS = (9, 11, 13, 15, 17, 19, 21)
IR_VERSIONS = {9: 4, 11: 6, 13: 7, 15: 8, 17: 8, 19: 9, 21: 10}
"""Of the first ONNX release that has the set: what its runtimes read."""
RUNTIMES = {"1.16.3": (["onnxruntime==1.16.3", "numpy<2"], 19), "newest": ([], 99)}
NOT_BEFORE: dict[str, str] = {}
"""Operators that sets 11 or 13 can't say, with ONNX's reason."""
TYPES = {"tensor(float)": "f4", "tensor(double)": "f8", "tensor(int64)": "i8", "tensor(int32)": "i4", "tensor(float16)": "f2"}


def write(case: Case, folder: Path) -> dict[int, str]:
    """SET.onnx in the folder; what was refused, by set."""
    import converters

    folder.mkdir(parents=True)
    refused = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", converters.ConversionWarning)
        paths = case.write_model(folder)
        model = converters.load(*paths, inputs=case.shapes(), key=case.about.get("model_at") or None)
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
        for given, expected in case.pairs():
            arrays = arrange(given, [value.name for value in wanted])
            feed = {i.name: a.astype(TYPES.get(i.type, a.dtype)) for i, a in zip(wanted, arrays, strict=True)}
            outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))
            found = faults(case, outputs, expected)
            if found:
                return "; ".join(found)
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"[:300]
    return ""


def run_all(folder: Path, newest: int) -> dict[str, str]:
    """{framework/case/set: what is wrong} of every file in the folder that the runtime's sets hold."""
    found = {}
    for path in sorted(folder.glob("*/*/*.onnx")):
        if int(path.stem) <= newest:
            case = Case(path.parts[-3], path.parts[-2])
            found[f"{case.framework}/{case.name}/{path.stem}"] = run(case, path)
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--only", default="")
    for name in ("--run", "--answer"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--newest", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        asked.answer.write_text(json.dumps(run_all(asked.run, asked.newest)))
        return 0
    refused: dict[str, str] = {}
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        written = Path(temporary, "written")
        for framework in FILES:
            if asked.only in framework:
                for case in cases(framework):
                    if case.about.get("expect", "convert") == "convert":
                        problems = write(case, written / framework / case.name)
                        refused |= {f"{framework}/{case.name}/{opset}": words for opset, words in problems.items()}
        for runtime in RUNTIMES:
            failed += tell(runtime, run_in(runtime, written, asked.folder or Path(temporary)), refused)
    reasons = collections.Counter(reason(words) for words in refused.values())
    print("\nrefused, with the number of cases:", *(f"  {count:4} {words}" for words, count in sorted(reasons.items())), sep="\n")
    older = [k for k in refused if k.endswith(("/11", "/13")) and k.rsplit("/", 1)[0] + "/19" not in refused]
    unexplained = [key for key in older if not any(words in refused[key] for words in NOT_BEFORE)]
    print(f"\nrefused in set 11 or 13 and written in 19, for no listed reason: {len(unexplained)}", *unexplained[:20], sep="\n  ")
    return int(failed > 0 or len(unexplained) > 0)


def tell(runtime: str, answers: dict[str, str], refused: dict[str, str]) -> int:
    """Prints one runtime's table; the number of wrong files."""
    print(f"\nonnxruntime {runtime}: written / refused / wrong")
    wrong = {key: words for key, words in answers.items() if words}
    for framework in FILES:
        cells = []
        for opset in OPSETS:
            end = f"/{opset}"
            keys = [key for key in answers if key.startswith(framework) and key.endswith(end)]
            no = sum(1 for key in refused if key.startswith(framework) and key.endswith(end))
            bad = sum(1 for key in wrong if key.startswith(framework) and key.endswith(end))
            cells.append(f"{len(keys)}/{no}/{bad}" if keys else "-")
        print(f"  {framework:8}", *(f"{cell:>12}" for cell in cells))
    for key, words in list(wrong.items())[:60]:
        print(f"  wrong: {key}: {words}")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
