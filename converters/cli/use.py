"""classify, extract-features and evaluate: what a converted model, or the original, says of images; benchmark: how fast it does."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from converters import formats, packages
from converters.cli import terminal
from converters.cli.arguments import UsageError, add_input, add_plugin, options_of
from converters.cli.preprocessing import add_preprocessing, needed, preprocess_of
from converters.errors import printable

ORDERS = ("sorted", "devkit")
_ENGINES = ("onnxruntime", "torch")

if TYPE_CHECKING:
    from converters.evaluation import Accuracy, RunningModel
    from converters.evaluation.model import Source
    from converters.preprocessing import Preprocess


def add(commands: Any) -> None:
    """Adds the commands to the parser."""
    command = _add(commands, "classify", "MODEL IMAGE...: the most likely classes of images", _classify)
    command.add_argument("--labels", metavar="FILE", help="names of the classes, one a line")
    command.add_argument("--top", type=int, default=5, metavar="N", help="how many classes (default 5)")
    command = _add(commands, "extract-features", "MODEL IMAGE|FOLDER...: what inner layers answer", _extract)
    command.add_argument("--layer", action="append", required=True, metavar="NAME", help="a layer by its source's name; repeat it for more")
    command.add_argument("--save", required=True, metavar="OUT", help="out.npz, out.safetensors or out.t7")
    command.add_argument("--force", action="store_true", help="overwrite the target if it exists")
    command = _add(commands, "evaluate", "MODEL FOLDER: top-1 and top-5 over FOLDER/CLASS/IMAGE, or over a list", _evaluate)
    command.add_argument("--list", metavar="FILE", help="lines `path label` instead of a folder; labels count from 0")
    command.add_argument("--root", metavar="DIR", help="where the paths of --list lie (default: beside it)")
    command.add_argument("--first-label", type=int, default=0, metavar="N", help="what the labels of --list count from (default 0)")
    command.add_argument("--order", choices=ORDERS, help="which of ImageNet's two orders the model's classes have (default: its recipe's)")
    command.add_argument("--list-order", choices=ORDERS, help="that of --list, where it is the other")
    command.add_argument(
        "--labels", metavar="FILE", help="the classes, one a line: folders of these names or ImageNet ids get their numbers"
    )
    command.add_argument("--batch", type=int, default=32, metavar="N", help="images that the model gets at once (default 32)")
    command.add_argument("--workers", type=int, metavar="N", help="threads that decode images (default: one for each core)")
    command.add_argument(
        "--resume", nargs="?", const="", metavar="FILE", help="write answers down as they come, and go on where a run stopped"
    )
    _add_benchmark(commands)


def _add(commands: Any, name: str, words: str, run: Any) -> Any:
    command = commands.add_parser(name, help=words)
    command.add_argument("files", nargs="+", metavar="FILE", help="the model's one or two files, then images or folders")
    add_preprocessing(command)
    command.add_argument("--engine", choices=("onnxruntime", "torch"), default="onnxruntime", help="what runs the model")
    command.add_argument("--output", metavar="NAME", help="which of several outputs")
    add_model(command)
    command.set_defaults(run=run)
    return command


def add_model(command: argparse.ArgumentParser) -> None:
    """How a model is read and run."""
    add_input(command, "shape of the model's input")
    command.add_argument("--key", help="where the model sits in a checkpoint")
    command.add_argument("--code", metavar="DIR", help="folder of a PyTorch model's own code")
    command.add_argument(
        "--model", metavar="MODULE:FACTORY", help="for a checkpoint of weights: what builds the model, in --code DIR or installed"
    )
    add_plugin(command)
    command.add_argument("--trust", action="store_true", help="let code that you name, or the .py beside a .pth, run")
    command.add_argument("--threads", type=int, metavar="N", help="processor threads of the engine")
    command.add_argument("--json", action="store_true", help="print the answer, or the error, as JSON")


def split_files(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """The model's files, told by their content, and the rest."""
    first = formats.recognize(files[0])
    row = formats.format_of(first)
    second = row.files[1].kinds if row is not None and len(row.files) > 1 else ()
    if len(files) > 1 and second and os.path.isfile(files[1]) and formats.recognize(files[1]).kind.name in second:
        return list(files[:2]), list(files[2:])
    return list(files[:1]), list(files[1:])


def _open(asked: argparse.Namespace, paths: Sequence[str], layers: Sequence[str] = ()) -> tuple[RunningModel, Preprocess]:
    packages.check("PIL", "onnxruntime" if asked.engine == "onnxruntime" else "torch", extra="images")
    from converters.evaluation import open_model
    from converters.evaluation.stored import stored_preprocess

    terminal.doing(f"reading {' and '.join(os.path.basename(path) for path in paths)}")
    is_said = asked.recipe is not None or asked.preprocess is not None
    preprocess = preprocess_of(asked, lambda: None) if is_said else None  # a mistake is said before the model is read
    model = open_model(paths, options_of(asked), engine=asked.engine, threads=asked.threads, layers=layers)
    return model, preprocess or needed(
        asked, lambda: stored_preprocess(paths, channels=model.channels, mean_file=asked.mean_file), model.proposal
    )


def _classify(asked: argparse.Namespace) -> int:
    paths, images = split_files(asked.files)
    if not images:
        raise UsageError("convert classify: give images behind the model")
    model, preprocess = _open(asked, paths)
    from converters.evaluation import classify, read_labels

    labels = read_labels(asked.labels) if asked.labels else None
    terminal.doing(f"{len(images):,} images")
    answers = classify(model, images, preprocess, labels=labels, top=asked.top, notify=terminal.say)
    if asked.json:
        terminal.tell_json({"images": [answer.as_dict() for answer in answers]})
    else:
        for answer in answers:
            terminal.tell(f"{printable(answer.path, 400)}:" + (f" {answer.error}" if answer.error else ""))
            for _, label, probability in answer.top:
                terminal.tell(f"{probability:.6f}\t{printable(label)}")
    return 0 if any(answer.top for answer in answers) else 1


def _extract(asked: argparse.Namespace) -> int:
    from converters.files import check_target

    paths, images = split_files(asked.files)
    if not images:
        raise UsageError("convert extract-features: give images behind the model")
    check_target(asked.save, force=asked.force)
    model, preprocess = _open(asked, paths, asked.layer)
    from converters.evaluation import extract_features

    told = lambda done, total: terminal.doing(f"{done:,} of {total:,} images", done, total)  # noqa: E731
    found = extract_features(model, asked.layer, images, preprocess, progress=told)
    found.save(asked.save, force=asked.force)
    facts = {"written": asked.save, "images": len(found.paths), "broken": found.broken}
    shapes = {name: list(array.shape) for name, array in found.arrays.items()}
    if asked.json:
        terminal.tell_json({**facts, "layers": shapes})
    else:
        for path, words in found.broken.items():
            terminal.say(f"left out: {printable(path, 400)}: {words}")
        for name, shape in shapes.items():
            terminal.tell(f"{printable(name)}: {'x'.join(map(str, shape))}")
        terminal.tell(f"written: {printable(asked.save, 400)}")
    return 0


def _evaluate(asked: argparse.Namespace) -> int:
    paths, rest = split_files(asked.files)
    if bool(rest) == bool(asked.list) or len(rest) > 1:
        raise UsageError("convert evaluate: give one folder behind the model, or --list FILE")
    model, preprocess = _open(asked, paths)
    from converters.evaluation import evaluate, read_labels
    from converters.evaluation.images import find_labeled

    numbers = read_labels(asked.labels).numbers if asked.labels else None
    orders = (asked.order or preprocess.labels or "", asked.list_order)
    images = find_labeled(asked.list or rest[0], classes=numbers, root=asked.root, orders=orders, first=asked.first_label)
    workers = asked.workers if asked.workers is not None else (os.cpu_count() or 1)
    state = evaluate(
        model,
        images,
        preprocess,
        batch=asked.batch,
        workers=workers,
        resume=_record(asked),
        progress=lambda state: _counted(state, len(images)),
    )
    if asked.json:
        terminal.tell_json(state.as_dict())
    else:
        for path, words in state.broken.items():
            terminal.say(f"left out: {printable(path, 400)}: {words}")
        terminal.tell(str(state))
    return 0 if state.images else 1


def _record(asked: argparse.Namespace) -> str | None:
    """The file of --resume; without a name, one in this folder that belongs to the same words."""
    if asked.resume != "":
        return None if asked.resume is None else str(asked.resume)
    words = repr([asked.files, asked.list, asked.labels, asked.recipe, asked.preprocess])
    import hashlib

    return f"evaluate-{hashlib.sha256(words.encode()).hexdigest()[:12]}.jsonl"


def _counted(state: Accuracy, total: int) -> None:
    """Shows how far an evaluation is, and the accuracy so far."""
    done = state.images + len(state.broken)
    part = f", top-1 {state.top1 / state.images:.2%}" if state.images else ""
    terminal.doing(f"{done:,} of {total:,} images{part}", done, total)


# -- how fast models are, side by side, and what their layers cost ------------------------------------------------------------


def _add_benchmark(commands: Any) -> None:
    command = commands.add_parser("benchmark", help="MODEL [OTHER...]: how long forward and backward take, in one run side by side")
    command.add_argument("files", nargs="+", metavar="FILE", help="one or two files for each model")
    command.add_argument("--engine", action="append", choices=_ENGINES, help="what runs them; repeat it for more (default: all)")
    command.add_argument("--batch", type=int, default=1, metavar="N", help="items at once (default 1)")
    command.add_argument("--runs", type=int, default=20, metavar="N", help="runs that are timed (default 20)")
    command.add_argument("--warmup", type=int, default=3, metavar="N", help="runs before, which aren't (default 3)")
    command.add_argument("--backward", action="store_true", help="time the gradient too, in PyTorch")
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where they run (default cpu)")
    command.add_argument("--layers", action="store_true", help="print parameters and multiply-adds of each layer")
    add_model(command)
    command.set_defaults(run=_benchmark)


def _benchmark(asked: argparse.Namespace) -> int:
    engines = tuple(dict.fromkeys(asked.engine or _ENGINES))
    packages.check(*engines)
    from converters.evaluation import benchmark
    from converters.evaluation.timing import names_of

    models: list[Source] = []
    rest = list(asked.files)
    while rest:
        one, rest = split_files(rest)
        models.append(one)
    settings: dict[str, Any] = {name: getattr(asked, name) for name in ("batch", "runs", "warmup", "backward", "threads", "device")}
    found = benchmark(dict(zip(names_of(models), models, strict=True)), options_of(asked), engines=engines, **settings)
    if asked.json:
        terminal.tell_json(found.as_dict())
        return 0
    terminal.tell(str(found))
    for name, cost in found.costs.items() if asked.layers else ():
        terminal.tell(f"\n{printable(name)}, for one item:\n\n{cost}")
    return 0
