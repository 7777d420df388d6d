"""strip-to-weights: the exact weights of any file that holds some, without running it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from converters.errors import ConversionError, about, printable, warn
from converters.files import StrPath, check_target, writing
from converters.formats import prepare_weights, read_weights, recognize
from converters.graph import provenance
from converters.options import LoadOptions
from converters.recognition import RecognizedFile
from converters.tensors.casting import FLOATING, cast, make_contiguous
from converters.tensors.folding import fold
from converters.tensors.placing import renamed
from converters.tensors.state_dict import ClassSource, LeftOut, StateDict, grouped, prefix_hint, rename, strip_prefix, torch_names, unwrap
from converters.tensors.storage import ConvertedStorage
from converters.tensors.tensor import Tensor, Weight, as_tensors, ties

_TARGETS = (".pth", ".pt", ".bin", ".safetensors")
_ENDINGS = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".pkl", ".model", ".t7", ".safetensors", ".params", ".caffemodel", ".h5", ".onnx")


@dataclass(frozen=True)
class StripOptions:
    """What strip-to-weights does to the weights on their way.

    key: where the weights sit in a checkpoint, a dotted path. unwrap: take DataParallel's `module.` away. strip_prefix: take this prefix
    off the names. torch_names: gamma, beta, moving_mean become weight, bias, running_mean. dtype: one of
    converters.tensors.casting.FLOATING, for floating tensors. fold: spectral_norm, weight_norm and parametrizations become plain weights.
    contiguous: every tensor row-major in a storage of its own. source_dir: a folder for the class source that old files embed. force:
    overwrite. rename: patterns, old and new (tensors.placing.renamed). place: what puts the weights under the keys of a class of one's
    own. Of TensorFlow checkpoints, ema takes moving averages for the variables, torch_layout turns weights as torch has them.
    """

    key: str | None = None
    unwrap: bool = False
    strip_prefix: str | None = None
    torch_names: bool = False
    dtype: str | None = None
    fold: bool = False
    contiguous: bool = False
    source_dir: StrPath | None = None
    force: bool = False
    rename: Sequence[tuple[str, str]] = ()
    place: Callable[[Mapping[str, Weight]], Mapping[str, Any]] | None = None
    ema: bool = False
    torch_layout: bool = False


@dataclass
class StripReport:
    """What strip-to-weights found and wrote to `path`.

    classes: the modules' class names, how many of each. parameters: elements of all tensors, tied ones once. tied: names of the same
    elements. unwrapped: wrappers' levels that were taken away. left_out: what else the file holds. unknown: what only the class's code
    could say. suspicious: what the file would have run. hint: what to do about a prefix. sources: the files with the classes' source.
    """

    source: Path
    path: Path
    form: str
    key: str
    tensors: int
    parameters: int
    dtypes: dict[str, int]
    classes: dict[str, int]
    tied: list[list[str]] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    suspicious: list[str] = field(default_factory=list)
    unwrapped: list[str] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    hint: str = ""
    sources: list[Path] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON: snake_case names, paths as text, shapes as lists."""
        plain: dict[str, Any] = dict(vars(self))
        plain["source"], plain["path"], plain["sources"] = str(self.source), str(self.path), [str(path) for path in self.sources]
        plain["left_out"] = [{**asdict(entry), "shape": _plain_shape(entry)} for entry in self.left_out]
        return plain

    def __str__(self) -> str:
        dtypes = ", ".join(f"{name} {total}" for name, total in self.dtypes.items())
        article = "an" if self.form[:1] in "AEIOUaeio" else "a"
        lines = [
            f"{printable(self.source.name)}: {article} {self.form}" + (f", weights under '{printable(self.key)}'" if self.key else ""),
            f"weights:   {self.tensors} tensors, {self.parameters:,} elements ({dtypes})",
        ]
        if self.classes:
            lines.append("classes:   " + _listed([f"{printable(name)} x{total}" for name, total in self.classes.items()], 12))
        if self.tied:
            lines.append("tied:      " + _listed([" = ".join(printable(name) for name in group[:4]) for group in self.tied], 6))
        if self.unwrapped:
            lines.append("unwrapped: " + _listed([printable(path) for path in self.unwrapped], 6))
        if self.folded:
            lines.append("folded:    " + _listed([printable(name) for name in self.folded], 6))
        if self.left_out:
            lines.append("left out:  " + _listed(grouped(self.left_out), 12))
        lines.extend(f"not known: {words}" for words in self.unknown)
        if self.suspicious:
            lines.append("not run:   " + _listed(self.suspicious, 6))
        if self.hint:
            lines.append(f"hint:      {self.hint}")
        lines.extend(f"source:    {path}" for path in self.sources[:20])
        lines.append(f"written:   {printable(self.path, 400)}")
        return "\n".join(lines)


def _plain_shape(entry: LeftOut) -> list[int] | None:
    return None if entry.shape is None else list(entry.shape)


def _listed(names: list[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def strip_to_weights(source: StrPath, target: StrPath | None = None, options: StripOptions | None = None) -> StripReport:
    """Writes the weights that a file holds, as state_dict() would give them; nothing in the file is imported or called.

    target: .pth (the default: NAME_weights.pth beside the source) or .safetensors. Raises ConversionError.
    """
    options = options or StripOptions()
    if options.dtype is not None and options.dtype not in FLOATING:
        raise ConversionError(f"dtype '{printable(options.dtype)}': choose one of {', '.join(FLOATING)}")
    origin = Path(source)
    goal = check_target(default_target(origin) if target is None else target, force=options.force, sources=[origin])
    if goal.suffix not in _TARGETS:
        raise ConversionError(f"{goal.name}: the target's suffix says its form: .pth or .safetensors")
    file = recognize(origin)
    state = read_weights(file, LoadOptions(key=options.key))
    with about(source):
        asked = frozenset(name for name in ("ema", "torch_layout", "torch_names") if getattr(options, name))
        done = prepare_weights(state, file, asked)
        if not state.tensors:
            raise ConversionError("there are no weights in it", hint="a file that was cut short behind a name looks like that")
        unwrapped, folded, converted = _apply(state, options, names="torch_names" in asked - done)
        _write(goal, state, file, force=options.force)
    if overflowed := sum(storage.overflowed for storage in converted):
        words = f"{overflowed} number{'s' if overflowed > 1 else ''} too large for {options.dtype} became infinite"
        warn(f"{printable(origin.name)}: {words}")
    report = _report(origin, goal, state)
    report.unwrapped, report.folded = unwrapped, folded
    if options.source_dir is not None:
        report.sources = _write_sources(state.sources, Path(options.source_dir), force=options.force)
    if report.suspicious:
        words = f"the file asks to call {_listed(report.suspicious, 6)}; nothing of it was run. Don't load it by other means"
        warn(f"{printable(origin.name)}: {words}")
    return report


def _apply(state: StateDict, options: StripOptions, *, names: bool) -> tuple[list[str], list[str], list[ConvertedStorage]]:
    """Does to the weights what the options say; answers the levels taken away, the folded names and the storages that change type.

    names: rename to torch's words.
    """
    unwrapped = unwrap(state) if options.unwrap else []
    if options.strip_prefix is not None:
        strip_prefix(state, options.strip_prefix)
    if names:
        torch_names(state)
    folded = fold(state) if options.fold else []
    converted = cast(state, options.dtype) if options.dtype is not None else []
    if options.contiguous:
        make_contiguous(state)
    if options.rename:
        rename(state, renamed([*state.tensors, *state.spectral_dims], options.rename), {})
    if options.place is not None:
        state.tensors = as_tensors(options.place(state.tensors))
    if options.rename or options.place is not None:
        state.metadata, state.classes = {}, {}  # they belong to the names that were
    return unwrapped, folded, converted


def default_target(source: Path) -> Path:
    """NAME_weights.pth beside the source: `model.pth.tar` gives `model_weights.pth`."""
    name = source.name
    while (stem := Path(name).stem) != name and Path(name).suffix in _ENDINGS:
        name = stem
    return source.with_name(f"{name}_weights.pth")


def _write(goal: Path, state: StateDict, source: RecognizedFile, *, force: bool) -> None:
    if goal.suffix == ".safetensors":
        from converters.writers.safetensors import write_safetensors

        write_safetensors(goal, state.tensors, metadata=provenance.origin_text(provenance.origin([source])), force=force)
    else:
        from converters.writers.pth import write_pth

        write_pth(goal, state.tensors, metadata=state.metadata, force=force)


def _report(origin: Path, goal: Path, state: StateDict) -> StripReport:
    dtypes: dict[str, int] = {}
    parameters = 0
    counted = set()
    for weight in state.tensors.values():
        dtypes[weight.torch_dtype] = dtypes.get(weight.torch_dtype, 0) + 1
        if isinstance(weight, Tensor):
            if weight.size and weight.place not in counted:
                parameters += weight.size
            counted.add(weight.place)
    classes: dict[str, int] = {}
    for name in state.classes.values():
        classes[name] = classes.get(name, 0) + 1
    report = StripReport(origin, goal, state.form, state.key, len(state.tensors), parameters, dtypes, classes)
    report.tied, report.left_out, report.unknown = ties(state.tensors), state.left_out, state.unknown
    report.hint = prefix_hint(state)
    report.suspicious = state.suspicious
    return report


def _write_sources(sources: list[ClassSource], folder: Path, *, force: bool) -> list[Path]:
    """The classes' source text, one file for each, for reading: never imported, and named by us, not by the file."""
    if not sources:
        warn("the file embeds no source (only streams and tars of torch before 1.6 do)")
        return []
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    texts: dict[tuple[str, str], None] = {}
    for source in sources:
        texts.setdefault((source.cls, source.text))
    for number, (cls, text) in enumerate(texts):
        name = re.sub(r"[^A-Za-z0-9_.]+", "_", cls)[:100].strip(".") or "class"
        path = folder / f"{number:03d}_{name}.py.txt"
        with writing(path, force=force) as file:
            file.write(text.encode("utf-8", "replace"))
        written.append(path)
    return written
