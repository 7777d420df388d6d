"""strip-to-weights: the weights alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from converters.cli import placing, terminal
from converters.cli.arguments import add_output_options


def add(commands: Any) -> None:
    """Adds the command to the parser."""
    strip = commands.add_parser("strip-to-weights", help="the exact weights of any checkpoint, without running it")
    strip.add_argument("source", metavar="SOURCE", help="a .pth, .pt, .tar ... that torch.save wrote")
    strip.add_argument("target", nargs="?", help="out.pth or out.safetensors (default: SOURCE_weights.pth beside the source)")
    strip.add_argument("--key", help="where the weights sit in a checkpoint: a dotted path")
    strip.add_argument("--unwrap", action="store_true", help="take the `module.` of DataParallel and DDP wrappers away")
    strip.add_argument("--strip-prefix", metavar="PREFIX", help="take this prefix off the keys that have it")
    strip.add_argument(
        "--torch-names", action="store_true", help="MXNet, TensorFlow: gamma, beta, moving_mean become weight, bias, running_mean"
    )
    strip.add_argument("--dtype", choices=("float16", "bfloat16", "float32", "float64"), help="convert floating tensors")
    strip.add_argument("--fold", action="store_true", help="fold spectral_norm, weight_norm and parametrizations into plain weights")
    strip.add_argument("--ema", action="store_true", help="TensorFlow: take each variable's moving average for the variable")
    strip.add_argument("--torch-layout", action="store_true", help="TensorFlow: turn weights as torch has them (out, in, h, w)")
    strip.add_argument("--contiguous", action="store_true", help="write every tensor row-major, without its storage's other parts")
    strip.add_argument(
        "--source", dest="source_dir", metavar="DIR", help="write the class source that old files embed into DIR, to read it"
    )
    placing.add(strip)
    add_output_options(strip, "report")
    strip.set_defaults(run=_strip)


def _strip(asked: argparse.Namespace) -> int:
    from converters.strip import StripOptions, default_target, strip_to_weights

    facts: dict[str, Any] = {}
    is_placed = asked.like or asked.map
    if placing.is_asked(asked):
        placing.check(asked, Path(asked.target or default_target(Path(asked.source))), "convert strip-to-weights")

    options = StripOptions(
        key=asked.key,
        unwrap=asked.unwrap,
        strip_prefix=asked.strip_prefix,
        torch_names=asked.torch_names,
        dtype=asked.dtype,
        fold=asked.fold,
        contiguous=asked.contiguous,
        source_dir=asked.source_dir,
        force=asked.force,
        rename=asked.rename,
        place=(lambda weights: placing.place(asked, weights, weights, facts)) if is_placed else None,
        ema=asked.ema,
        torch_layout=asked.torch_layout,
    )
    report = strip_to_weights(asked.source, asked.target, options)
    if not asked.quiet:
        if asked.json:
            terminal.tell_json(report.as_dict() | facts)
        else:
            terminal.tell(str(report))
            if "matched" in facts:
                words = "proven" if facts["matched"]["proven"] else "by names, order and shapes, not proven: the file has no graph"
                terminal.tell(f"matched:   {facts['matched']['keys']} keys, {words}")
    return 0
