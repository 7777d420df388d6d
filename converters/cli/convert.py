"""caffe2torch, caffe2onnx, lua2torch ...: a command for each format of the table and each thing it can become."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters import formats, packages
from converters.cli import placing, terminal
from converters.cli.arguments import UsageError, add_input, add_output_options, add_plugin, constant, definition, dynamic_axis
from converters.cli.preprocessing import add_changes, change_model
from converters.cli.verify import add_feed_options
from converters.errors import ConversionError, printable
from converters.files import check_target
from converters.formats import Format
from converters.graph.names import keys_beside, module_name
from converters.graph.provenance import SOURCES
from converters.options import LoadOptions

if TYPE_CHECKING:
    import onnx_ir

    from converters.verification.report import Report

_TARGETS = {
    "torch": ("out.pth (and out.py), or out.safetensors", (".pth", ".pt", ".safetensors")),
    "onnx": ("out.onnx", (".onnx",)),
}


def add(commands: Any) -> None:
    """Adds the commands to the parser."""
    for row in formats.FORMATS:
        for kind in _TARGETS:
            if row.word and row.word != kind:
                _add(commands, row, kind)


def _add(commands: Any, row: Format, kind: str) -> None:
    target, _ = _TARGETS[kind]
    command = commands.add_parser(f"{row.word}2{kind}", help=f"{' + '.join(role.name for role in row.files)} -> {target}")
    for role in row.files:
        command.add_argument(role.name, help=role.help, nargs="?" if role.is_optional else None)
    command.add_argument("target", help=target)
    add_input(
        command,
        "shape of an input, where the file doesn't have it; the name may be left out where there is one input; repeat it for more",
    )
    command.add_argument(
        "--dynamic",
        action="append",
        default=[],
        type=dynamic_axis,
        metavar="NAME:AXIS=LABEL",
        help="leave an axis of an input open besides the first (data:2=height); repeat it for more",
    )
    command.add_argument(
        "--output", action="append", default=[], metavar="NAME", help="end in this inner value instead; repeat it for more"
    )
    command.add_argument("--key", help='where the model sits in a checkpoint ("model", "protos.rnn")')
    add_plugin(command)
    command.add_argument(
        "--trust", action="store_true", help="let code that you name, and TorchScript programs, run; without it nothing does"
    )
    _add_checks(command)
    if kind == "torch":
        command.add_argument(
            "--blocks",
            action="store_true",
            help="what repeats in the source (bottlenecks, inception modules) becomes classes with arguments; "
            "OUT.keys.json says which key was which",
        )
        placing.add(command, code=False)
        if "code" not in row.options:
            command.add_argument("--code", metavar="DIR", help="folder of the code of --like")
    if kind == "onnx":
        command.add_argument("--opset", type=int, help="write another operator set than the graph's own")
    if "code" in row.options and kind == "onnx":
        command.add_argument("--output-names", metavar="A,B", help="what the outputs are called, in order; else what the model calls them")
    if "code" in row.options:
        command.add_argument("--code", metavar="DIR", help="folder of the model's own Python code, where it has classes of its own")
        command.add_argument(
            "--model", metavar="MODULE:FACTORY", help="for a checkpoint of weights: what builds the model, in --code DIR or installed"
        )
    command.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32", "float64"),
        help="the floating-point type to write, which the net computes in (of a .t7, float64 keeps the file's doubles)",
    )
    command.add_argument(
        "--io-dtype", choices=("float32", "float64", "float16"), help="the type of inputs and outputs, where it isn't to be that of --dtype"
    )
    _add_options_of(command, row)
    add_changes(command, kind)
    add_output_options(command, "result")
    command.set_defaults(run=_convert, format=row, kind=kind)


def _add_options_of(command: argparse.ArgumentParser, row: Format) -> None:
    """What goes with one format alone."""
    if "states" in row.options:
        command.add_argument("--states", action="store_true", help="first states of recurrent modules become inputs, the last ones outputs")
    if "constants" in row.options:
        command.add_argument(
            "--constant",
            action="append",
            default=[],
            type=constant,
            metavar="NAME=VALUE",
            help="an input that is a number from now on (is_training=false, keep_prob=1.0); repeat it for more",
        )
    if "fillers" in row.options:
        command.add_argument(
            "--allow-fillers", action="store_true", help="parameters that no weights file has get what their fillers say; else an error"
        )
    if "define" in row.options:
        command.add_argument(
            "--define",
            action="append",
            default=[],
            type=definition,
            metavar="NAME=VALUE",
            help="what stands for $NAME$ in a template (TARGET_WIDTH=512), or a number that a layer takes from elsewhere",
        )


def _add_checks(command: argparse.ArgumentParser) -> None:
    """--verify and what goes with it."""
    command.add_argument(
        "--verify",
        choices=("quick", "full"),
        help="run the finished files on the same inputs in PyTorch and onnxruntime, and write them only if they answer alike; "
        "`--verify full` tries several seeds, batches, zeros and negative numbers",
    )
    add_feed_options(command)
    command.add_argument("--report", metavar="OUT.html", help="verify, and write what was found as one page: layers, differences, weights")


def _convert(asked: argparse.Namespace) -> int:
    begun = time.perf_counter()
    row, target = asked.format, Path(asked.target)
    files = [path for role in row.files if (path := getattr(asked, role.name)) is not None]
    _check(asked, target)
    for path in _written(target, asked):
        check_target(path, force=asked.force, sources=files)
    if asked.verify:
        packages.check("torch", "onnxruntime", *(["torchfile"] if row.name == "torch7" else []))
    terminal.doing(f"reading {' and '.join(Path(path).name for path in files)}")
    model = formats.load(files, _options(asked), format=row, target=asked.kind)
    again = None
    if asked.verify and row.name == "torch7":
        from converters.verification.torchfile import read_again

        again = read_again(files[0])
        if not again.ok:
            raise ConversionError(f"{again}\nnothing was written")
    changes = change_model(asked, model, files)
    terminal.doing(f"writing {target.name}" + (" and running it" if asked.verify else ""))
    placed: dict[str, Any] = {}
    if placing.is_asked(asked):
        placing.save(asked, model, target, placed)
    report = None if placing.is_asked(asked) else _save(asked, model, target)
    from converters.graph.costs import stored

    parameters, buffers = stored(model)
    facts: dict[str, Any] = {
        "written": [str(path) for path in _written(target, asked)],
        "format": row.name,
        "inputs": {str(v.name): _shape(v) for v in model.graph.inputs},
        "outputs": {str(v.name): _shape(v) for v in model.graph.outputs},
        "parameters": parameters,
        "buffers": buffers,
        "nodes": len(model.graph),
        "seconds": round(time.perf_counter() - begun, 2),
    }
    if changes:
        facts["changed"] = changes
    facts |= placed
    if report is not None:
        facts["verified"] = {"largest_difference": report.worst, "tolerance": report.tolerance} if report.outputs else "NOT RUN"
        if report.optimizer:
            facts["optimizer"] = f"onnxruntime's {report.optimizer_words}"
        if report.notes:
            facts["notes"] = report.notes
    if again is not None:
        facts["read_again"] = str(again)
    if not asked.quiet:
        source = _written(target, asked)[min(1, len(_written(target, asked)) - 1)]
        if source.suffix == ".py" and source.stem != target.stem:
            terminal.say(f"note: the source is {source.name}: Python can't import {target.stem}.py, or would find it instead of another")
        if asked.json:
            terminal.tell_json(facts)
        else:
            _tell(facts)
    return 0


def _check(asked: argparse.Namespace, target: Path) -> None:
    """Raises UsageError for options and a target that don't go together, OutputExistsError for a report that exists."""
    command = f"{asked.format.word}2{asked.kind}"
    if asked.report:
        check_target(asked.report, force=asked.force)
        asked.verify = asked.verify or "quick"
    if (asked.feed or asked.expect) and not asked.verify:
        raise UsageError(f"convert {command}: --feed and --expect go with --verify")
    suffixes = _TARGETS[asked.kind][1]
    if target.suffix.lower() not in suffixes:
        raise UsageError(f"convert {command}: the target {printable(target, 400)} must end in {' or '.join(suffixes)}")
    if getattr(asked, "blocks", False) and (placing.is_asked(asked) or target.suffix.lower() == ".safetensors"):
        raise UsageError(f"convert {command}: --blocks writes a source of its own: a .pth, without --like, --map and --rename")
    if placing.is_asked(asked):
        placing.check(asked, target, f"convert {command}")


def _save(asked: argparse.Namespace, model: onnx_ir.Model, target: Path) -> Report | None:
    """Writes the target, with --verify only if it answers as the other runtime does."""
    import converters

    opset, blocks = getattr(asked, "opset", None), getattr(asked, "blocks", False)
    is_read = asked.dtype == "float64" and "dtype" in asked.format.options and asked.io_dtype is None
    dtype = None if is_read else asked.dtype  # the reader makes the doubles of a .t7
    if not asked.verify:
        converters.save(model, target, force=asked.force, opset=opset, dtype=dtype, io_dtype=asked.io_dtype, blocks=blocks)
        return None
    from converters.verification.compare import write_verified

    report = write_verified(
        model,
        target,
        opset=opset,
        force=asked.force,
        level=asked.verify,
        feed=asked.feed,
        expect=asked.expect,
        dtype=dtype,
        io_dtype=asked.io_dtype,
        blocks=blocks,
    )
    if asked.report:
        terminal.doing(f"writing {Path(asked.report).name}: every layer")
        _write_report(asked, model, target, report)
    if not report.ok:
        raise ConversionError(f"{report}\nnothing was written" + (f" but the report {asked.report}" if asked.report else ""))
    return report


def _write_report(asked: argparse.Namespace, model: onnx_ir.Model, target: Path, report: Report) -> None:
    """The page about a conversion, whether what it wrote is right or not."""
    from converters.verification.compare import every_layer
    from converters.verification.page import write_page

    files: list[tuple[str, Any]] = [("source", file) for file in model.meta[SOURCES]]
    files += [("written", path) for path in _written(target, asked) if report.ok]
    layers = every_layer(model, getattr(asked, "opset", None))
    write_page(asked.report, report, files=files, model=model, layers=layers, force=asked.force)


def _options(asked: argparse.Namespace) -> LoadOptions:
    return LoadOptions(
        inputs=dict(asked.input),
        key=asked.key,
        dynamic=dict(asked.dynamic),
        outputs=tuple(asked.output),
        output_names=tuple(name for name in (getattr(asked, "output_names", None) or "").split(",") if name),
        constants=dict(getattr(asked, "constant", ())),
        code=asked.code if "code" in asked.format.options else None,
        factory=getattr(asked, "model", None),
        plugin=asked.plugin,
        trust=asked.trust,
        fillers=getattr(asked, "allow_fillers", False),
        define=dict(getattr(asked, "define", ())),
        states=getattr(asked, "states", False),
        dtype=asked.dtype if "dtype" in asked.format.options and asked.dtype == "float64" else None,
        notify=terminal.say,
    )


def _written(target: Path, asked: argparse.Namespace) -> list[Path]:
    """The files that a conversion to this target writes."""
    if placing.is_asked(asked):
        return [target]
    source = target.with_name(f"{module_name(target.stem)}.py")
    if target.suffix.lower() not in (".pth", ".pt"):
        return [target]
    return [target, source, *([keys_beside(target)] if getattr(asked, "blocks", False) else [])]


def _shape(value: onnx_ir.Value) -> list[int | str | None] | None:
    return None if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]


def _tell(facts: Mapping[str, Any]) -> None:
    """The facts as lines, a name and what it is."""
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {_short(item)}" for key, item in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        elif isinstance(value, int):
            value = f"{value:,}"
        terminal.tell(f"{name.replace('_', ' ') + ':':<12} {printable(value, 2000)}")


def _short(value: object) -> str:
    if isinstance(value, list):
        return "x".join("?" if item is None else str(item) for item in value)
    return f"{value:.2g}" if isinstance(value, float) else "?" if value is None else str(value)
