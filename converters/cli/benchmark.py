"""benchmark: how fast models are, side by side, and what their layers cost."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from converters import packages
from converters.cli import terminal
from converters.cli.arguments import options_of
from converters.cli.use import add_model, split_files
from converters.errors import printable

if TYPE_CHECKING:
    from converters.evaluation.model import Source

_ENGINES = ("onnxruntime", "torch")


def add(commands: Any) -> None:
    """Adds the command to the parser."""
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
