"""The `convert` command: the only place that prints, and the only one that exits.

Results go to stdout, progress and warnings to stderr. Exit status: 0 done, 1 the input can't be converted, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import converters
from converters import packages
from converters.errors import ConversionError, ConversionWarning, printable
from converters.files import check_target

if TYPE_CHECKING:
    import onnx_ir

_FAMILIES = {"caffe": "caffe", "lua": "torch7", "mxnet": "mxnet", "onnx": "onnx", "torch": "pytorch"}
_FILES = {
    "caffe": (
        ("prototxt", "deploy.prototxt: the net in text form"),
        ("caffemodel", "model.caffemodel or model.caffemodel.h5: the weights"),
    ),
    "lua": (("t7", "model.t7: a file that Lua Torch saved"),),
    "mxnet": (("symbol", "net-symbol.json: the symbol"), ("params", "net-0000.params: the parameters")),
    "onnx": (("onnx", "model.onnx"),),
    "torch": (("pth", "whole_model.pth: a pickled torch.nn.Module, or a TorchScript archive"),),
}
_SUFFIXES = {"torch": (".pth", ".pt", ".safetensors"), "onnx": (".onnx",)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ConversionWarning)
        warnings.showwarning = _show_warning
        try:
            status: int = asked.run(asked)
            return status
        except ConversionError as problem:
            return _fail(str(problem))
        except KeyboardInterrupt:
            _say("interrupted; nothing was written")
            return 130
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; the last flush mustn't complain
            return 1
        except Exception as problem:  # a mistake of ours: still one line, and no half output (see files.writing)
            if os.environ.get("CONVERTERS_DEBUG"):
                raise
            files = ", ".join(os.path.basename(str(f)) for f in getattr(asked, "files", []))
            what = printable(f"{type(problem).__name__}: {problem}", 400)
            return _fail(f"{files}: internal error, please report it (CONVERTERS_DEBUG=1 shows where): {what}")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say(f"warning: {message}")


def _fail(message: str) -> int:
    _say(f"error: {message}")
    return 1


def _say(text: str) -> None:
    print("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text), file=sys.stderr)


# -- the words --------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="convert",
        description="Legacy checkpoints (Caffe, Lua Torch, MXNet, whole-model PyTorch) to PyTorch and ONNX, with the same numbers.",
        epilog="Exit status: 0 done, 1 the input can't be converted, 2 wrong usage. `python -m converters` is the same command.",
    )
    parser.add_argument("--version", action="version", version=f"converters {converters.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for family, names in _FILES.items():
        for kind in ("torch", "onnx"):
            if family != kind:
                _add_conversion(commands, family, kind, names)
    _add_strip(commands)
    inspect = commands.add_parser("inspect", help="say what a file is, and what is in it")
    inspect.add_argument("files", nargs="+", metavar="FILE")
    inspect.add_argument("--key", help="where the model or the weights sit in a checkpoint")
    inspect.add_argument("--json", action="store_true", help="print the answer as JSON")
    inspect.set_defaults(run=_inspect)
    check = commands.add_parser("verify", help="compare two conversions: the weights of two files, or the outputs of two ONNX models")
    check.add_argument("files", nargs=2, metavar="FILE")
    check.add_argument("--tolerance", type=float, default=1e-4, help="largest difference, relative to the largest number (default 1e-4)")
    check.add_argument("--key", help="where the weights sit in the first file, if it is a checkpoint")
    check.add_argument("--json", action="store_true", help="print the answer as JSON")
    check.set_defaults(run=_verify)
    return parser


def _add_conversion(commands: Any, family: str, kind: str, names: Sequence[tuple[str, str]]) -> None:
    target = "out.pth (and out.py), or out.safetensors" if kind == "torch" else "out.onnx"
    command = commands.add_parser(f"{family}2{kind}", help=f"{' + '.join(n for n, _ in names)} -> {target}")
    for name, words in names:
        command.add_argument(name, help=words)
    command.add_argument("target", help=target)
    command.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=1x3x224x224",
        help="shape of an input, where the file doesn't have it; the name may be left out where there is one input; repeat it for more",
    )
    command.add_argument("--key", help='where the model sits in a checkpoint ("model", "protos.rnn")')
    command.add_argument("--verify", action="store_true", help="run the same random input through PyTorch and onnxruntime, and compare")
    command.add_argument("--force", action="store_true", help="overwrite the target if it exists")
    command.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    if kind == "onnx":
        command.add_argument("--opset", type=int, help="write another operator set than the graph's own")
    if family == "torch":
        command.add_argument("--code", metavar="DIR", help="folder of the model's own Python code, where it has classes of its own")
        command.add_argument("--trust", action="store_true", help="let the code in the file and in --code DIR run; without it nothing does")
        command.add_argument("--model", metavar="MODULE:FACTORY", help="for a checkpoint of weights: what builds the model, in --code DIR")
    command.set_defaults(run=_convert, family=family, kind=kind, names=[n for n, _ in names])


def _add_strip(commands: Any) -> None:
    strip = commands.add_parser("strip-to-weights", help="the exact weights of any PyTorch checkpoint, without running it")
    strip.add_argument("files", nargs=1, metavar="SOURCE", help="a .pth, .pt, .tar ... that torch.save wrote")
    strip.add_argument("target", nargs="?", help="out.pth or out.safetensors (default: SOURCE_weights.pth beside the source)")
    strip.add_argument("--key", help="where the weights sit in a checkpoint: a dotted path")
    strip.add_argument("--unwrap", action="store_true", help="take the `module.` of DataParallel and DDP wrappers away")
    strip.add_argument("--strip-prefix", metavar="PREFIX", help="take this prefix off the keys that have it")
    strip.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), help="convert floating tensors")
    strip.add_argument("--fold", action="store_true", help="fold spectral_norm, weight_norm and parametrizations into plain weights")
    strip.add_argument("--contiguous", action="store_true", help="write every tensor row-major, without its storage's other parts")
    strip.add_argument("--source", metavar="DIR", help="write the class source that old files embed into DIR, to read it")
    strip.add_argument("--force", action="store_true", help="overwrite the target if it exists")
    strip.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    strip.add_argument("--json", action="store_true", help="print the report as JSON")
    strip.set_defaults(run=_strip)


# -- the commands -----------------------------------------------------------------------------------------------------


def _convert(asked: argparse.Namespace) -> int:
    from converters.verification.torchfile import read_again

    begun = time.perf_counter()
    asked.files = [getattr(asked, name) for name in asked.names]
    target = Path(asked.target)
    if target.suffix.lower() not in _SUFFIXES[asked.kind]:
        _say(f"convert {asked.family}2{asked.kind}: the target {asked.target} must end in {' or '.join(_SUFFIXES[asked.kind])}")
        return 2
    check_target(target, force=asked.force)
    if asked.verify:
        packages.check("torch", "onnxruntime", *(["torchfile"] if asked.family == "lua" else []))
    inputs = _inputs(asked.input)
    if inputs is None:
        return 2
    model = _load(asked, inputs)
    report = converters.verify(model) if asked.verify else None
    if report is not None and not report.ok:
        return _fail(f"{report}\nnothing was written")
    again = read_again(asked.t7) if asked.verify and asked.family == "lua" else None
    if again is not None and not again.ok:
        return _fail(f"{again}\nnothing was written")
    converters.save(model, target, force=asked.force, opset=getattr(asked, "opset", None))
    written = [str(target)] + ([str(target.with_suffix(".py"))] if target.suffix.lower() in (".pth", ".pt") else [])
    facts: dict[str, Any] = {
        "written": written,
        "inputs": {str(v.name): _shape(v) for v in model.graph.inputs},
        "outputs": {str(v.name): _shape(v) for v in model.graph.outputs},
        "parameters": sum(v.const_value.size for v in model.graph.initializers.values() if v.const_value is not None),
        "nodes": len(model.graph),
        "seconds": round(time.perf_counter() - begun, 2),
    }
    if report is not None:
        facts["verified"] = {"largest difference": report.worst, "tolerance": report.tolerance}
    if again is not None:
        facts["read again"] = str(again)
    if not asked.quiet:
        _tell(facts, asked.json)
    return 0


def _load(asked: argparse.Namespace, inputs: Mapping[str, Sequence[int]]) -> onnx_ir.Model:
    from converters import formats

    if asked.family == "torch":
        from converters.tracing.export import export

        return export(asked.pth, inputs=inputs or None, key=asked.key, code=asked.code, trust=asked.trust, factory=asked.model, notify=_say)
    return formats.load(asked.files, inputs=inputs or None, key=asked.key, family=_FAMILIES[asked.family])


def _inputs(words: Sequence[str]) -> dict[str, tuple[int, ...]] | None:
    """`NAME=1x3x224x224` or `1x3x224x224` (the name is then empty: the only input) -> shapes; None, and a word on stderr, if misspelt."""
    shapes = {}
    for word in words:
        name, _, dims = word.rpartition("=")
        if not re.fullmatch(r"[0-9]+([x,][0-9]+)*", dims):
            _say(f"convert: --input {word}: write NAME=1x3x224x224")
            return None
        shapes[name] = tuple(int(d) for d in re.split("[x,]", dims))
    return shapes


def _shape(value: onnx_ir.Value) -> str:
    return "x".join(str(d if isinstance(d, int) else d.value or "?") for d in value.shape) if value.shape is not None else "?"


def _tell(facts: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v:.2g}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        elif isinstance(value, int):
            value = f"{value:,}"
        print(f"{name + ':':<12} {printable(value, 2000)}")


def _strip(asked: argparse.Namespace) -> int:
    report = converters.strip_to_weights(
        asked.files[0],
        asked.target,
        key=asked.key,
        unwrap=asked.unwrap,
        strip_prefix=asked.strip_prefix,
        dtype=asked.dtype,
        fold=asked.fold,
        contiguous=asked.contiguous,
        source_dir=asked.source,
        force=asked.force,
    )
    if not asked.quiet:
        print(json.dumps(report.as_dict(), indent=1) if asked.json else str(report))
    return 0


def _inspect(asked: argparse.Namespace) -> int:
    from converters import recognition

    answers = []
    for path in asked.files:
        kind = recognition.identify(path)
        facts: dict[str, Any] = {"file": path, "bytes": os.path.getsize(path), "kind": kind.words}
        if kind.family not in ("mistaken", "unknown") and kind.name not in ("prototxt", "mxnet-symbol"):
            weights = converters.load_weights(path, asked.key)
            facts["tensors"] = {
                name: f"{getattr(w, 'torch_dtype', w.dtype)} {'x'.join(map(str, w.shape)) or 'scalar'}" for name, w in weights.items()
            }
        answers.append(facts)
    if asked.json:
        print(json.dumps(answers, indent=1))
        return 0
    for facts in answers:
        print(f"{facts['file']}: {facts['kind']}, {facts['bytes']:,} bytes")
        for name, words in facts.get("tensors", {}).items():
            print(f"  {printable(name)}: {words}")
    return 0


def _verify(asked: argparse.Namespace) -> int:
    from converters import recognition
    from converters.verification.compare import Report, compare_models, compare_weights

    kinds = [recognition.identify(path).family for path in asked.files]
    if kinds == ["onnx", "onnx"]:
        report: Report = compare_models(*asked.files, tolerance=asked.tolerance)
    else:
        report = compare_weights(
            converters.load_weights(asked.files[0], asked.key), converters.load_weights(asked.files[1]), tolerance=asked.tolerance
        )
    if asked.json:
        print(json.dumps({"ok": report.ok, "largest_difference": report.worst, "differences": {d.name: d.error for d in report.outputs}}))
    else:
        print(report)
    return 0 if report.ok else 1
