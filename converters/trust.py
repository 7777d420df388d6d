"""The one place that runs a user's code: folders of Python files, plugins, TorchScript programs; and only where that is trusted."""

from __future__ import annotations

import ast
import collections
import contextlib
import enum
import functools
import importlib
import importlib.util
import os
import re
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from converters.errors import ConversionError, FormatError, UnsupportedError, printable
from converters.files import StrPath

_run: set[tuple[str, int, int]] = set()
"""Plugins that have run in this process, by path, size and time: their lowerings are registered already."""


_CLASSES = frozenset("collections datetime decimal enum fractions numbers pathlib random typing uuid".split())
_FUNCTIONS = frozenset("math operator _operator".split())
_BUILTINS = "abs bool bytearray bytes complex dict float frozenset int len list max min object range round set slice str sum tuple".split()
_ITERATORS = "chain combinations count cycle islice permutations product repeat zip_longest".split()
_CALLED = frozenset(["builtins.getattr", "logging.getLogger", "re._compile"])
_NAMED = frozenset(
    "argparse.Namespace builtins.mappingproxy contextlib.nullcontext dataclasses._MISSING_TYPE functools.partial inspect._empty "
    "_io.BytesIO _io.StringIO operator.itemgetter re.Pattern re.RegexFlag time.struct_time types.SimpleNamespace".split()
) | {*_CALLED, *(f"builtins.{name}" for name in _BUILTINS), *(f"itertools.{name}" for name in _ITERATORS)}
"""What a pickle may name of Python's own library, classes and functions of these modules besides: nothing of it runs what it is given."""
_IMPORTED = _CLASSES | _FUNCTIONS | {"io", "types", *(name.partition(".")[0] for name in _NAMED)}
"""Modules of Python's own library that are imported where a pickle names them: others do things as they are imported."""
_MAKERS = re.compile(r"numpy\._?core\.(multiarray\.(scalar|_reconstruct)|numeric\._frombuffer)|numpy\.random\._pickle\.\w+")
"""What numpy's own pickles call."""
_TORCH = re.compile(
    r"torch\.(_VariableFunctionsClass\.(?!from_file)\w+|_C\._(nn|fft|special|linalg)\.\w+|(nn\.)?functional\.[\w.<>]+|nn\.init\.\w+|"
    r"|Size|device|finfo|iinfo|Tensor|_C\.Generator|nn\.parameter\.\w+|distributions\.[\w.]+)"
)
"""Functions of torch that compute, and classes that hold: no others of it are given (torch.load, torch.hub.load, torch.from_file)."""
_CONFIGURATIONS = frozenset("addict easydict ml_collections munch omegaconf yacs".split())
"""Packages of dictionaries that nets keep their settings in."""
_HOLDERS = ("_VariableFunctionsClass", "TensorBase", "Tensor")
"""Classes of torch's that hold its functions."""
_PLAIN = (tuple, list, dict, set, frozenset, str, bytes, int, float, enum.Enum)
"""What a class may be a kind of to be made of what the file says; other classes are made of nothing, and get their state."""


class Code:
    """The folder that a model's own classes come from; its modules may be imported, once that is trusted."""

    def __init__(self, folder: Path | None) -> None:
        """folder: None for installed packages alone; the current folder is none of them."""
        self.folder = folder
        self.shown = "the installed packages" if folder is None else str(folder)
        self._packages: set[str] = set()  # installed ones that the file's modules are of

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """Puts the folder at the head of Python's path for the block, or takes the current one off it."""
        before = list(sys.path)
        if self.folder is None:
            here = os.path.realpath(os.getcwd())
            sys.path[:] = [entry for entry in sys.path if entry and os.path.realpath(entry) != here]
        else:
            sys.path.insert(0, str(self.folder.resolve()))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path[:] = before

    def has(self, name: str) -> bool:
        """Whether there may be a module for "package.module.Class" or "package.module:function"; nothing is imported."""
        top = re.split(r"[.:]", name)[0]
        return self.folder is not None or (top not in ("__main__", "__mp_main__", "") and importlib.util.find_spec(top) is not None)

    def find(self, module: str, name: str) -> Any:
        """A class or function of the folder's; one that was pickled from a script (`__main__`) is looked for. Raises ConversionError."""
        if module in ("__main__", "__mp_main__", "") and self.folder is not None:
            module = self._file_with(name.split(".")[0])
        try:
            value: Any = importlib.import_module(module)
            for part in name.split("."):
                value = getattr(value, part)
        except Exception as problem:  # the code of others fails in ways of its own
            shown = printable(f"{module}.{name}" if module else name)
            reason = f"{type(problem).__name__}: {printable(problem, 300)}"
            raise ConversionError(f"{shown} can't be imported from {self.shown}: {reason}") from problem
        return value

    def module_class(self, module: str, name: str) -> Any:
        """A class that a pickle has for one of its modules. Raises ConversionError."""
        self._check_import(module, name)
        found = self.find(module, name)
        if not _is_module(found):
            raise ConversionError(f"{printable(f'{module}.{name}')} is no torch.nn.Module in the code that was given")
        self._packages.add(str(found.__module__).partition(".")[0])
        return found

    def named(self, module: str, name: str) -> Any:
        """A class or function that a pickle names: of the folder's own, of the packages that its modules are of, or a harmless one.

        A pickle that named another (os.system, eval) would have its code run by the net. Raises ConversionError.
        """
        self._check_import(module, name)
        value = self.find(module, name)
        if not (self._is_harmless(value) or _origin(value).partition(".")[0] in self._packages - {"torch", "numpy"}):
            raise _needless(module, name)
        return value

    def _check_import(self, module: str, name: str) -> None:
        """Raises UnsupportedError where a mere import would do something."""
        top, *inside = module.split(".")
        is_held = self.folder is not None and any((self.folder / file).exists() for file in (top, f"{top}.py"))
        if not is_held and ((top in sys.stdlib_module_names and top not in _IMPORTED) or "__main__" in inside):
            raise _needless(module, name)

    def _is_harmless(self, value: Any) -> bool:
        """Whether it may be called with whatever a file says: the folder's own, a module's class, mathematics, or what only holds."""
        if isinstance(value, ModuleType):
            return False
        if self._is_own(value):
            return True
        origin = _origin(value)
        top = origin.partition(".")[0]
        if top in sys.stdlib_module_names:
            if isinstance(value, type) or type(value).__module__ == "typing":
                return top in _CLASSES or origin in _NAMED
            return origin in _NAMED or (top in _FUNCTIONS and origin != "_operator.call")
        if top == "numpy":
            return type(value).__name__ == "ufunc" or _is_of_numpy(value) or _MAKERS.fullmatch(origin) is not None
        return _is_module(value) or _TORCH.fullmatch(origin) is not None or (top in _CONFIGURATIONS and isinstance(value, type))

    def make(self, function: Callable[..., Any], given: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """What a pickle has made by a class (which isn't initialized) or by one of the folder's own functions. Raises UnsupportedError."""
        origin = _origin(function)
        top = origin.partition(".")[0]
        if isinstance(function, type):
            may = not (given or named) or issubclass(function, _PLAIN) or top in ("torch", "numpy") or self._is_harmless(function)
        elif origin == "builtins.getattr":  # a method of a module, or torch.relu
            holder, name = given if len(given) == 2 else (None, "__")
            may = hasattr(holder, "named_modules") or getattr(holder, "__name__", "") in _HOLDERS
            may = may and isinstance(name, str) and not name.startswith("__") and name != "from_file"
        elif _MAKERS.fullmatch(origin):
            may = all(_origin(part).startswith("numpy.") for part in given if callable(part))
        else:
            may = self._is_own(function) or origin in _CALLED
        if not may:
            raise self._uncalled(origin)
        return function.__new__(function, *given, **named) if isinstance(function, type) else function(*given, **named)

    def check(self, made: Any) -> None:
        """Raises UnsupportedError for a partial or a defaultdict that would call what is another's, or hand it on to be called."""
        held: list[Any] = []
        if isinstance(made, functools.partial):
            held = [made.func, *made.args, *made.keywords.values()]
        elif isinstance(made, collections.defaultdict):
            held = [made.default_factory]
        for part in held:
            is_called = callable(part) and not hasattr(part, "named_modules")
            if is_called and (not self._is_harmless(part) or _origin(part) in _CALLED):
                raise self._uncalled(_origin(part))

    def _uncalled(self, origin: str) -> UnsupportedError:
        what = f"the file would have {printable(origin)} called, which isn't of {self.shown}"
        return UnsupportedError(what, hint="build the net: --model MODULE:FACTORY")

    def _is_own(self, value: Any) -> bool:
        """Whether a class or function is of a file in the folder."""
        file = getattr(sys.modules.get(str(getattr(value, "__module__", ""))), "__file__", None)
        return self.folder is not None and file is not None and Path(file).resolve().is_relative_to(self.folder.resolve())

    def build(self, factory: str) -> Any:
        """What "module:function" answers. Raises ConversionError."""
        match = re.fullmatch(r"([A-Za-z_][\w.]*):([A-Za-z_][\w.]*)", factory)
        if match is None:
            raise ConversionError(f"{printable(factory)}: write package.module:function")
        function = self.find(match[1], match[2])
        try:
            return function()
        except Exception as problem:
            reason = f"{type(problem).__name__}: {printable(problem, 300)}"
            raise ConversionError(f"{factory} in {self.shown}: {reason}") from problem

    def _file_with(self, name: str) -> str:
        """The module of the folder that defines a class which was pickled from a script."""
        found: list[str] = []
        assert self.folder is not None
        for file in sorted(self.folder.rglob("*.py")):
            with contextlib.suppress(SyntaxError, ValueError, OSError):
                body = ast.parse(file.read_bytes()).body
                if any(isinstance(item, ast.ClassDef | ast.FunctionDef) and item.name == name for item in body):
                    found.append(".".join(file.relative_to(self.folder).with_suffix("").parts))
        if len(found) != 1:
            there = f"several define it: {', '.join(found)}" if found else "none there defines it"
            raise ConversionError(f"class {printable(name)} was saved from a script, and of the files in {self.folder} {there}")
        return found[0]


def _needless(module: str, name: str) -> UnsupportedError:
    return UnsupportedError(
        f"the file names {printable(f'{module}.{name}')}, which no net has need of and isn't given to it",
        hint="build the net: --model MODULE:FACTORY",
    )


def _is_module(value: Any) -> bool:
    """Whether it is a class of torch.nn.Module's, told without torch."""
    return isinstance(value, type) and hasattr(value, "named_modules") and hasattr(value, "register_buffer")


def _is_of_numpy(value: Any) -> bool:
    """Whether it is a class of numbers, arrays or random numbers: others (numpy.memmap, numpy.DataSource) write and remove files."""
    import numpy as np

    if not isinstance(value, type):
        return False
    return value is np.ndarray or issubclass(value, np.generic | np.dtype) or value.__module__.startswith("numpy.random")


def _origin(value: Any) -> str:
    """Where a class or function is defined, whatever it was named by."""
    where = getattr(value, "__self__", value) if getattr(value, "__module__", None) is None else value
    where = where if isinstance(where, type) or hasattr(where, "__module__") else type(where)
    return f"{getattr(where, '__module__', '')}.{getattr(value, '__qualname__', '')}"


def build_like(factory: str, code: StrPath | None, *, trust: bool, notify: Callable[[str], None] | None = None) -> Any:
    """The user's own module that "package.module:factory" makes: in the folder `code`, else of an installed package.

    Raises UnsupportedError without trust, ConversionError where it fails or answers no module.
    """
    if not trust:
        what = f"{printable(factory)} is Python code, which has to run"
        raise UnsupportedError(what, hint="read it, then say that you trust it: --trust")
    if code is not None and not os.path.isdir(code):
        raise ConversionError(f"{os.fspath(code)}: --code must be a folder with Python files")
    own = Code(None if code is None else Path(code))
    if notify is not None:
        notify(f"running {printable(factory)} from {own.shown}")
    with own.importing():
        made = own.build(factory)
    if not hasattr(made, "state_dict") or not hasattr(made, "named_modules"):
        raise ConversionError(f"{printable(factory)} answers a {type(made).__name__}, which is no torch.nn.Module")
    return made


def build_written(source: StrPath) -> Any:
    """The module that the build() of a written .py makes: the file runs as it is now, under no name that another could have.

    Raises ConversionError where it fails. Only for files that the user trusts.
    """
    file = os.fspath(source)
    try:
        build = runpy.run_path(file, run_name="converters_written").get("build")
        if build is None:
            raise ConversionError("has no build()", path=file, hint="give the .py that was written beside the .pth")
        return build()
    except ConversionError:
        raise
    except Exception as problem:  # the code of others fails in ways of its own
        line = _line_in(problem, file)
        raise ConversionError(f"fails: {type(problem).__name__}: {printable(problem, 300)}", path=file, line=line) from problem


def run_plugin(path: StrPath, *, trust: bool, notify: Callable[[str], None] | None = None) -> None:
    """Runs a Python file that registers lowerings, once in a process. Raises UnsupportedError without trust."""
    file = os.fspath(path)
    if not trust:
        raise UnsupportedError("a plugin is Python code, which has to run", path=file, hint="read it, then say that you trust it: --trust")
    try:
        facts = os.stat(file)
    except OSError as problem:
        raise ConversionError(f"can't be read: {problem.strerror or problem}", path=file) from problem
    key = (os.path.realpath(file), facts.st_size, facts.st_mtime_ns)
    if key in _run:
        return
    if notify is not None:
        notify(f"running the plugin {file}")
    try:
        runpy.run_path(file, run_name="converters_plugin")
    except ConversionError:
        raise
    except Exception as problem:
        line = _line_in(problem, file)
        raise ConversionError(f"the plugin fails: {type(problem).__name__}: {printable(problem, 300)}", path=file, line=line) from problem
    _run.add(key)


def _line_in(problem: Exception, file: str) -> int | None:
    """The line of the file that an exception passed through last."""
    if isinstance(problem, SyntaxError) and problem.filename == file:
        return problem.lineno
    line, trace = None, problem.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


OLD_PROGRAM = "_converters_old_program"
"""Attribute of a TorchScript module: whether PyTorch 1.10 or an older one wrote it."""


def run_script(path: StrPath, *, trust: bool, notify: Callable[[str], None] | None = None) -> Any:
    """The module of a TorchScript archive, in eval mode. Raises UnsupportedError without trust, FormatError for a broken one."""
    file = os.fspath(path)
    if not trust:
        raise UnsupportedError("a TorchScript archive is a program, which has to run", path=file, hint="say that you trust it: --trust")
    import torch

    if notify is not None:
        notify(f"{file}: running the TorchScript program in it")
    try:
        module = torch.jit.load(file, map_location="cpu").eval()  # type: ignore[no-untyped-call]
        setattr(module, OLD_PROGRAM, _is_old(file))
        return module
    except (RuntimeError, ValueError, EOFError) as problem:
        lines = str(problem).splitlines() or [type(problem).__name__]
        raise FormatError(printable(lines[0], 300), path=file) from problem


def _is_old(file: str) -> bool:
    """Whether an archive's notes for debugging are in the form that PyTorch wrote up to 1.10; 1.11 can't be told from later ones."""
    import zipfile  # which commands that read no archive don't need

    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".debug_pkl"):
                with archive.open(entry) as notes:
                    return b"FORMAT_WITH_STRING_TABLE" not in notes.read(256)
    return False
