"""strip-to-weights: the exact weights of any PyTorch checkpoint, without running it."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.errors import ConversionError, ConversionWarning, UnsupportedError, printable
from converters.files import StrPath, check_target, writing
from converters.readers.pytorch.archives.archive import Checkpoint, read_checkpoint
from converters.readers.pytorch.choose import select
from converters.readers.pytorch.fold import fold as fold_weights
from converters.readers.pytorch.modules import WRAPPERS, StateDict
from converters.tensors.dtypes import DTYPES, DType
from converters.tensors.storage import ArrayStorage, ConvertedStorage, Storage
from converters.tensors.tensor import Tensor

FLOATING = ("float16", "bfloat16", "float32", "float64")
_FLOATING = ("float64", "float32", "float16", "bfloat16")
_EXPANDED = 1 << 30  # bytes up to which --contiguous writes a tensor out that repeats its elements
_SUSPECT = re.compile(
    r"(os|posix|nt|subprocess|sys|socket|shutil|runpy|webbrowser|commands|pty|ctypes|importlib|pickle|marshal|pydoc|timeit|pdb)\.\w+|"
    r"(code\.Interactive|multiprocessing\.|torch\.hub\.|torch\.serialization\.load|torch\.load)\w*"
)
_SUSPECT_CALLS = {"eval", "exec", "execfile", "compile", "open", "__import__", "map", "filter", "apply", "input", "setattr"}


@dataclass
class StripReport:
    """What strip-to-weights found and wrote.

    classes: the modules' class names, how many of each. parameters: elements of all tensors, tied ones once. dropped: entries of
    the checkpoint that are no weights. unknown: what only the class's code could say. suspicious: what the file would have run.
    """

    source: Path
    target: Path
    form: str
    key: str
    tensors: int
    parameters: int
    dtypes: dict[str, int]
    classes: dict[str, int]
    tied: list[list[str]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    suspicious: list[str] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        plain: dict[str, Any] = dict(vars(self))
        plain["source"], plain["target"], plain["sources"] = str(self.source), str(self.target), [str(path) for path in self.sources]
        return plain

    def __str__(self) -> str:
        dtypes = ", ".join(f"{name} {total}" for name, total in self.dtypes.items())
        lines = [
            f"{printable(self.source.name)}: a {self.form} checkpoint" + (f", weights under '{printable(self.key)}'" if self.key else ""),
            f"weights:   {self.tensors} tensors, {self.parameters:,} elements ({dtypes})",
        ]
        if self.classes:
            lines.append("classes:   " + _listed([f"{printable(name)} x{total}" for name, total in self.classes.items()], 12))
        if self.tied:
            lines.append("tied:      " + _listed([" = ".join(printable(name) for name in group[:4]) for group in self.tied], 6))
        if self.folded:
            lines.append("folded:    " + _listed([printable(name) for name in self.folded], 6))
        if self.dropped:
            lines.append("left out:  " + _listed(self.dropped, 12))
        lines.extend(f"not known: {words}" for words in self.unknown)
        if self.suspicious:
            lines.append("not run:   " + _listed(self.suspicious, 6))
        lines.extend(f"source:    {path}" for path in self.sources[:20])
        lines.append(f"written:   {printable(self.target, 400)}")
        return "\n".join(lines)


def _listed(names: list[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def strip_to_weights(
    source: StrPath,
    target: StrPath | None = None,
    *,
    key: str | None = None,
    unwrap: bool = False,
    strip_prefix: str | None = None,
    dtype: str | None = None,
    fold: bool = False,
    contiguous: bool = False,
    source_dir: StrPath | None = None,
    force: bool = False,
) -> Path:
    """Writes the weights that a checkpoint holds, as state_dict() would give them, and returns the target's path.

    Nothing in the file is imported or called. target: .pth (the default: NAME_weights.pth beside the source) or .safetensors.
    key: where the weights sit, a dotted path. unwrap: take DataParallel's `module.` away. strip_prefix: take this prefix off.
    dtype: "float16", "bfloat16" or "float32" for floating tensors. fold: spectral_norm, weight_norm and parametrizations become
    plain weights. contiguous: every tensor row-major in a storage of its own. source_dir: a folder for the class source that
    old files embed. Raises ConversionError.
    """
    report = strip(
        source,
        target,
        key=key,
        unwrap=unwrap,
        strip_prefix=strip_prefix,
        dtype=dtype,
        fold=fold,
        contiguous=contiguous,
        source_dir=source_dir,
        force=force,
    )
    return report.target


def strip(
    source: StrPath,
    target: StrPath | None = None,
    *,
    key: str | None = None,
    unwrap: bool = False,
    strip_prefix: str | None = None,
    dtype: str | None = None,
    fold: bool = False,
    contiguous: bool = False,
    source_dir: StrPath | None = None,
    force: bool = False,
) -> StripReport:
    """As strip_to_weights, and returns the report of what was found."""
    if dtype is not None and dtype not in FLOATING:
        raise ConversionError(f"dtype '{printable(dtype)}': choose one of {', '.join(FLOATING)}")
    origin = Path(source)
    goal = check_target(default_target(origin) if target is None else target, force=force)
    if goal.suffix not in (".pth", ".pt", ".bin", ".safetensors"):
        raise ConversionError(f"{goal.name}: the target's suffix says its form: .pth or .safetensors")
    checkpoint = read_checkpoint(origin)
    try:
        state, found_key, beside = select(checkpoint, key)
        if unwrap:
            _unwrap(state)
        if strip_prefix is not None:
            _strip_prefix(state, strip_prefix)
        folded = fold_weights(state) if fold else []
        converted = _convert(state, DTYPES[dtype]) if dtype is not None else []
        if contiguous:
            _make_contiguous(state)
        _write(goal, state, force=force)
    except ConversionError as problem:
        if str(problem).startswith(str(goal)):
            raise
        raise type(problem)(f"{printable(origin.name)}: {problem}") from problem
    if overflowed := sum(storage.overflowed for storage in converted):
        words = f"{overflowed} number{'s' if overflowed > 1 else ''} too large for {dtype} became infinite"
        warnings.warn(f"{printable(origin.name)}: {words}", ConversionWarning, stacklevel=2)
    report = _report(origin, goal, checkpoint, state, found_key)
    report.folded = folded
    report.dropped = [*beside, *state.dropped]
    if source_dir is not None:
        report.sources = _write_sources(checkpoint, Path(source_dir), force=force)
    if report.suspicious:
        words = f"the file asks to call {_listed(report.suspicious, 6)}; nothing of it was run. Don't load it by other means"
        warnings.warn(f"{printable(origin.name)}: {words}", ConversionWarning, stacklevel=2)
    return report


def read_weights(path: StrPath, key: str | None = None) -> StateDict:
    """The weights that a checkpoint holds, unchanged: lazy tensors in state_dict order, metadata, modules. Raises ConversionError."""
    checkpoint = read_checkpoint(path)
    try:
        state, _, _ = select(checkpoint, key)
    except ConversionError as problem:
        raise type(problem)(f"{printable(checkpoint.name)}: {problem}") from problem
    return state


def default_target(source: Path) -> Path:
    """NAME_weights.pth beside the source: `model.pth.tar` gives `model_weights.pth`."""
    name = source.name
    while (stem := Path(name).stem) != name and Path(name).suffix in (".pth", ".pt", ".tar", ".bin", ".ckpt", ".pkl", ".model", ".t7"):
        name = stem
    return source.with_name(f"{name}_weights.pth")


def _write(goal: Path, state: StateDict, *, force: bool) -> None:
    if goal.suffix == ".safetensors":
        from converters.writers.safetensors import write_safetensors

        write_safetensors(goal, state.tensors, force=force)
    else:
        from converters.writers.pth import write_pth

        write_pth(goal, state.tensors, metadata=state.metadata, force=force)


def _report(origin: Path, goal: Path, checkpoint: Checkpoint, state: StateDict, key: str) -> StripReport:
    dtypes: dict[str, int] = {}
    parameters = 0
    groups: dict[int, list[str]] = {}
    counted = set()
    for name, weight in state.tensors.items():
        dtypes[weight.torch_dtype] = dtypes.get(weight.torch_dtype, 0) + 1
        if isinstance(weight, Tensor):
            place = (id(weight.storage), weight.offset, weight.shape, weight.stride)
            if weight.size and place not in counted:
                parameters += weight.size
            counted.add(place)
            if weight.size:
                groups.setdefault(id(weight.storage), []).append(name)
    classes: dict[str, int] = {}
    for module in state.modules.values():
        classes[module.class_name] = classes.get(module.class_name, 0) + 1
    tied = [names for names in groups.values() if len(names) > 1]
    suspicious = [name for name in checkpoint.called if _is_suspect(name)]
    report = StripReport(origin, goal, checkpoint.form, key, len(state.tensors), parameters, dtypes, classes, tied)
    report.unknown, report.suspicious = state.unknown, suspicious
    return report


def _is_suspect(name: str) -> bool:
    return _SUSPECT.fullmatch(name) is not None or (name.startswith("builtins.") and name.removeprefix("builtins.") in _SUSPECT_CALLS)


# -- names


def _rename(state: StateDict, rename: dict[str, str], paths: dict[str, str | None]) -> None:
    """Gives tensors and module paths their new names; raises ConversionError where two would become one."""
    new: dict[str, str] = {}
    for name in state.tensors:
        goal = rename.get(name, name)
        if goal in new:
            raise ConversionError(f"'{printable(new[goal])}' and '{printable(name)}' would both be called '{printable(goal)}'")
        new[goal] = name
    state.tensors = {rename.get(name, name): tensor for name, tensor in state.tensors.items()}
    moved = [(paths.get(path, path), path) for path in state.metadata]
    state.metadata = {path: state.metadata[old] for path, old in moved if path is not None}
    placed = [(paths.get(path, path), path) for path in state.modules]
    state.modules = {path: state.modules[old] for path, old in placed if path is not None}


def _unwrap(state: StateDict) -> None:
    """Takes wrappers' level away: by the wrapper's node where the file has modules, else by a leading `module.`."""
    if state.modules:
        wrappers = {}
        for path, module in state.modules.items():
            inner = "_orig_mod" if module.class_name.endswith(".OptimizedModule") else "module"
            if module.class_name.rpartition(".")[2] in WRAPPERS:
                wrappers[path] = f"{path}.{inner}" if path else inner
        if not wrappers:
            warnings.warn("there is no DataParallel or other wrapper to take away", ConversionWarning, stacklevel=3)
        rename = {name: _shorten(name, wrappers) for name in state.tensors}
        paths: dict[str, str | None] = {path: None if path in wrappers else _shorten(path, wrappers) for path in state.modules}
    else:
        rename = {name: name.removeprefix("module.") for name in state.tensors}
        if all(name == goal for name, goal in rename.items()):
            warnings.warn("no name begins with 'module.', so that there is no wrapper to take away", ConversionWarning, stacklevel=3)
            return
        paths = _without_prefix(state, "module.")
    _rename(state, rename, paths)


def _shorten(name: str, wrappers: dict[str, str]) -> str:
    """The name without the level below each wrapper, the innermost first."""
    for path, inner in sorted(wrappers.items(), key=lambda item: -len(item[0])):
        if name == inner:
            name = path
        elif name.startswith(inner + "."):
            name = f"{path}.{name[len(inner) + 1 :]}" if path else name[len(inner) + 1 :]
    return name


def _without_prefix(state: StateDict, prefix: str) -> dict[str, str | None]:
    """New paths of modules: those above the prefix vanish."""
    paths: dict[str, str | None] = {}
    for path in {**state.metadata, **state.modules}:
        if f"{path}.".startswith(prefix):
            paths[path] = f"{path}."[len(prefix) :].removesuffix(".")
        elif prefix.startswith(f"{path}.") or not path:
            paths[path] = None
    return paths


def _strip_prefix(state: StateDict, prefix: str) -> None:
    if not any(name.startswith(prefix) for name in state.tensors):
        first = next(iter(state.tensors), "")
        raise ConversionError(f"no name begins with '{printable(prefix)}'; the first is '{printable(first)}'")
    paths = _without_prefix(state, prefix) if prefix.endswith(".") else {}
    _rename(state, {name: name.removeprefix(prefix) for name in state.tensors}, paths)


# -- numbers


def _convert(state: StateDict, kind: DType) -> list[ConvertedStorage]:
    """Floating tensors in another type; those that share a storage share it afterwards."""
    storages: dict[tuple[int, str], ConvertedStorage] = {}
    for name, tensor in state.tensors.items():
        if not isinstance(tensor, Tensor) or tensor.torch_dtype not in _FLOATING or tensor.element is kind:
            continue
        place = (id(tensor.storage), tensor.torch_dtype)
        if place not in storages:
            storages[place] = ConvertedStorage(tensor.storage, tensor.element, kind)
        state.tensors[name] = Tensor(
            storages[place], kind.name, tensor.shape, tensor.stride, tensor.offset, conj=tensor.conj, neg=tensor.neg
        )
    return list(storages.values())


def _make_contiguous(state: StateDict) -> None:
    """Every tensor row-major in a storage of its own; those that are the same tensor stay one."""
    made: dict[Any, Tensor] = {}
    for name, tensor in state.tensors.items():
        if not isinstance(tensor, Tensor) or tensor.quantizer is not None:
            raise UnsupportedError(
                f"{printable(name)}: a sparse, nested or quantized tensor can't be made contiguous; leave out --contiguous"
            )
        start, stop = tensor.span()
        if tensor.nbytes > max(_EXPANDED, 4 * (stop - start)):
            raise ConversionError(f"{printable(name)}: repeats {stop - start} bytes to {tensor.nbytes}; leave out --contiguous")
        place = (id(tensor.storage), tensor.torch_dtype, tensor.offset, tensor.shape, tensor.stride, tensor.conj, tensor.neg)
        if place not in made:
            made[place] = Tensor(RowStorage(tensor), tensor.torch_dtype, tensor.shape)
        state.tensors[name] = made[place]


class RowStorage(Storage):
    """A tensor's elements in row-major order, read when they are asked for."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.nbytes = tensor, tensor.nbytes

    def view(self) -> memoryview:
        return ArrayStorage(self.tensor.numpy()).view()

    def chunks(self, start: int, stop: int) -> Any:
        if self.tensor.contiguous and not self.tensor.conj and not self.tensor.neg:
            first, _ = self.tensor.span()
            return self.tensor.storage.chunks(first + start, first + stop)
        return ArrayStorage(self.tensor.numpy()).chunks(start, stop)


# -- embedded source


def _write_sources(checkpoint: Checkpoint, folder: Path, *, force: bool) -> list[Path]:
    """The classes' source text, one file for each, for reading: never imported, and named by us, not by the file."""
    if not checkpoint.sources:
        warnings.warn("the file embeds no source (only streams and tars of torch before 1.6 do)", ConversionWarning, stacklevel=3)
        return []
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    texts: dict[tuple[str, str], None] = {}
    for source in checkpoint.sources:
        texts.setdefault((source.cls, source.text))
    for number, (cls, text) in enumerate(texts):
        name = re.sub(r"[^A-Za-z0-9_.]+", "_", cls)[:100].strip(".") or "class"
        path = folder / f"{number:03d}_{name}.py.txt"
        with writing(path, force=force) as file:
            file.write(text.encode("utf-8", "replace"))
        written.append(path)
    return written
