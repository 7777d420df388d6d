"""--like, --map and --rename: the weights under the keys of a class of the user's own."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters import packages
from converters.cli import terminal
from converters.cli.arguments import UsageError
from converters.errors import ConversionError
from converters.files import check_target, together

if TYPE_CHECKING:
    import onnx_ir
    import torch

    from converters.matching import Match


def add(command: argparse.ArgumentParser, *, code: bool = True) -> None:
    """Adds the options; code: --code and --trust too."""
    command.add_argument(
        "--like",
        metavar="PACKAGE.MODULE:FACTORY",
        help="write the weights under the keys of the class that this makes; needs --trust (and --code DIR, unless it is installed)",
    )
    command.add_argument("--map", metavar="KEYS.json", help="with --like, write which key came from which; without it, use such a file")
    command.add_argument(
        "--rename",
        action="append",
        default=[],
        type=_pattern,
        metavar="OLD=NEW",
        help="write other names: whole ones or modules, * stands for anything; repeat it for more",
    )
    if code:
        command.add_argument("--code", metavar="DIR", help="folder of the code of --like")
        command.add_argument("--trust", action="store_true", help="let the code of --like run")


def _pattern(word: str) -> tuple[str, str]:
    match = re.fullmatch(r"([^=]+)=([^=]*)", word)
    if match is None:
        raise argparse.ArgumentTypeError(f"{word}: write OLD=NEW")
    return match[1], match[2]


def is_asked(asked: argparse.Namespace) -> bool:
    """Whether any of the options is given."""
    return bool(getattr(asked, "like", None) or getattr(asked, "map", None) or getattr(asked, "rename", None))


def check(asked: argparse.Namespace, target: Path, command: str) -> None:
    """Raises UsageError for options that don't go together, OutputExistsError for a map that exists."""
    if asked.rename and (asked.like or asked.map):
        raise UsageError(f"{command}: --rename goes without --like and --map")
    if asked.like and asked.map:
        check_target(asked.map, force=asked.force)
        if Path(asked.map) == target:
            raise UsageError(f"{command}: the map and the weights have one name")
    if asked.like:
        packages.check("torch")


def module_of(asked: argparse.Namespace) -> torch.nn.Module:
    """The user's own module."""
    from converters.trust import build_like

    module: torch.nn.Module = build_like(asked.like, asked.code, trust=asked.trust, notify=terminal.say)
    return module


def place(asked: argparse.Namespace, source: onnx_ir.Model | Mapping[str, Any], weights: Mapping[str, Any], facts: dict[str, Any]) -> Any:
    """The weights under other keys: those of the class, of the map, or of the patterns. source: what is matched. Adds to the facts."""
    from converters.tensors.placing import read_map, renamed

    if asked.rename:
        names = renamed(weights, asked.rename)
        facts["renamed"] = sum(old != new for old, new in names.items())
        return {names[name]: weight for name, weight in weights.items()}
    if not asked.like:
        known = read_map(asked.map)
        facts["matched"] = {"keys": len(known.entries), "proven": known.proven, "map": asked.map}
        return known.apply(weights)
    import converters

    terminal.doing(f"following the values through {asked.like}")
    found = converters.match(source, module_of(asked))
    _note(found, facts)
    if asked.map:
        found.key_map(weights).save(asked.map, force=asked.force)
    return found.apply()


def _note(found: Match, facts: dict[str, Any]) -> None:
    facts["matched"] = {"keys": len(found.keys), "proven": found.proven}
    if found.notes:
        facts["changed"] = found.notes


def save(asked: argparse.Namespace, model: onnx_ir.Model, target: Path, facts: dict[str, Any]) -> None:
    """Writes the weights of a graph under other keys, and the map; no source, which would have the net's own names."""
    from converters.graph.provenance import origin_of, origin_text
    from converters.writers.pth import write_pth
    from converters.writers.safetensors import write_safetensors
    from converters.writers.source.writer import state_dict

    if asked.dtype is not None or asked.verify:
        raise ConversionError(
            "--like, --map and --rename write weights alone", hint="leave --dtype and --verify out; a match is proven by running both"
        )
    with together():
        placed = place(asked, model, state_dict(model), facts)
        if target.suffix.lower() == ".safetensors":
            write_safetensors(target, placed, metadata=origin_text(origin_of(model)), force=asked.force)
        else:
            write_pth(target, placed, force=asked.force)
