"""The calls that a pickle may make: containers and plain values, built here; the functions of that name are never run."""

from __future__ import annotations

from typing import Any

from converters.readers.pytorch.pickles.interface import Handler, Machine
from converters.readers.pytorch.pickles.stubs import Global, Items, Stub

PARTIAL = Global("functools", "partial")


def _pairs(machine: Machine, items: Items, source: Any) -> None:
    if isinstance(source, dict):
        machine.set_items(items, [part for pair in source.items() for part in pair])
        return
    if not isinstance(source, list | tuple) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in source):
        machine.broken("a dictionary is made of something that isn't pairs")
    machine.set_items(items, [part for pair in source for part in pair])


def _ordered_dict(machine: Machine, args: tuple[Any, ...]) -> Items:
    items = Items(Global("collections", "OrderedDict"))
    if len(args) > 1:
        machine.broken("an OrderedDict of several arguments")
    if args:
        _pairs(machine, items, args[0])
    return items


def _default_dict(machine: Machine, args: tuple[Any, ...]) -> Items:
    items = Items(Global("collections", "defaultdict"))
    if len(args) > 1:
        _pairs(machine, items, args[1])
    return items


def _counter(machine: Machine, args: tuple[Any, ...]) -> Items:
    items = Items(Global("collections", "Counter"))
    if args:
        _pairs(machine, items, args[0])
    return items


def _set(machine: Machine, args: tuple[Any, ...]) -> set[Any]:
    items: set[Any] = set()
    machine.budget.spend(4)
    if args and not isinstance(args[0], list | tuple | set):
        machine.broken("a set is made of something that isn't a list")
    if args:
        machine.add(items, list(args[0]))
    return items


def _get_attribute(machine: Machine, args: tuple[Any, ...]) -> Any:
    """getattr(Outer, 'Inner') is how old protocols name a nested class or a method: a name, not a call."""
    if len(args) == 2 and isinstance(args[0], Global) and isinstance(args[1], str):
        if len(args[0].name) + len(args[1]) > 1000:
            machine.broken("a name of more than 1000 characters")
        return machine.make_global(args[0].module, f"{args[0].name}.{args[1]}")
    return Stub(Global("builtins", "getattr"), args)


def _builtin_type(machine: Machine, args: tuple[Any, ...]) -> Any:
    """dill names Python's own types by a call: _load_type('set')."""
    if len(args) == 1 and isinstance(args[0], str) and len(args[0]) < 100:
        return machine.make_global("builtins", str(args[0]))
    return Stub(Global("dill._dill", "_load_type"), args)


def _reconstructor(machine: Machine, args: tuple[Any, ...]) -> Any:
    """Protocols 0 and 1 make objects by copyreg._reconstructor(cls, base, base's state)."""
    if len(args) != 3:
        machine.broken("copyreg._reconstructor without its three arguments")
    made = machine.new(args[0], ())
    if isinstance(made, Stub):
        if isinstance(args[2], dict):
            made.entries = args[2]
        elif isinstance(args[2], list):
            made.items = args[2]
    return made


def _encode(machine: Machine, args: tuple[Any, ...]) -> Any:
    """Protocol 2 writes bytes as _codecs.encode(text, 'latin1')."""
    if not args or not isinstance(args[0], str) or len(args) > 2:
        return Stub(Global("_codecs", "encode"), args)
    name = args[1] if len(args) == 2 else "utf-8"
    if name not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):
        return Stub(Global("_codecs", "encode"), args)
    try:
        return args[0].encode(name)
    except UnicodeEncodeError:
        machine.broken(f"bytes that aren't {name}")


def _bytes(machine: Machine, args: tuple[Any, ...]) -> Any:
    if not args:
        return b""
    if isinstance(args[0], bytes | memoryview) and len(args) == 1:
        return args[0]
    if isinstance(args[0], str) and len(args) == 2:
        return _encode(machine, args)
    return Stub(Global("builtins", "bytearray"), args)


def _complex(machine: Machine, args: tuple[Any, ...]) -> Any:
    if len(args) == 2 and all(isinstance(part, float) for part in args):
        return complex(*args)
    return Stub(Global("builtins", "complex"), args)


def _new_object(machine: Machine, args: tuple[Any, ...]) -> Any:
    if not args:
        machine.broken("a new object of no class")
    return machine.new(args[0], args[1:])


def _new_object_ex(machine: Machine, args: tuple[Any, ...]) -> Any:
    if len(args) != 3:
        machine.broken("a new object of no class")
    return machine.new(*args)


CALLS: dict[Global, Handler] = {
    Global("collections", "OrderedDict"): _ordered_dict,
    Global("collections", "defaultdict"): _default_dict,
    Global("collections", "Counter"): _counter,
    Global("builtins", "set"): _set,
    Global("builtins", "getattr"): _get_attribute,
    Global("builtins", "bytearray"): _bytes,
    Global("builtins", "bytes"): _bytes,
    Global("builtins", "complex"): _complex,
    Global("_codecs", "encode"): _encode,
    Global("dill._dill", "_load_type"): _builtin_type,
    Global("dill.dill", "_load_type"): _builtin_type,
    Global("copyreg", "_reconstructor"): _reconstructor,
    Global("copyreg", "__newobj__"): _new_object,
    Global("copyreg", "__newobj_ex__"): _new_object_ex,
    PARTIAL: lambda machine, args: Stub(PARTIAL, args),
}
NEW: dict[Global, Handler] = {
    Global("collections", "OrderedDict"): _ordered_dict,
    Global("collections", "defaultdict"): _default_dict,
    Global("collections", "Counter"): _counter,
}
