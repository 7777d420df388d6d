"""The pickle machine: plain values as Python's own pickle reads them, everything else inert; hostile pickles end in FormatError."""

from __future__ import annotations

import collections
import pickle
import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from converters.errors import ConversionError, FormatError
from converters.readers.pytorch.pickles.interface import Budget
from converters.readers.pytorch.pickles.machine import Unpickler
from converters.readers.pytorch.pickles.stubs import Global, Items, Opaque, Stub
from tests import work
from tests.readers.pytorch.files import text

ATOMS = st.none() | st.booleans() | st.integers(-(1 << 80), 1 << 80) | st.floats(allow_nan=False) | st.text() | st.binary()
ATOMS |= st.complex_numbers(allow_nan=False)
KEYS = st.text() | st.integers(-(1 << 50), 1 << 50)
PLAIN = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner) | st.sets(st.integers(0, 99)),
    max_leaves=20,
)


@given(PLAIN, st.integers(0, 5))
@settings(max_examples=400, deadline=None)
@example("\ud800", 5)
@example([float("inf"), -0.0, 1 << 62, -1, "a\nb'\"\\"], 0)
def test_plain_values_as_python_reads_them(value: Any, protocol: int) -> None:
    try:
        data = pickle.dumps(value, protocol)
    except UnicodeEncodeError:
        return
    assert Unpickler(data).load() == value


def test_shared_and_cyclic_objects_keep_their_identity() -> None:
    for protocol in range(6):
        shared: list[Any] = [1]
        cycle: list[Any] = [shared, shared]
        cycle.append(cycle)
        got = Unpickler(pickle.dumps(cycle, protocol)).load()
        assert got[0] is got[1] and got[2] is got


def test_containers() -> None:
    ordered = collections.OrderedDict([("b", 1), ("a", 2)])
    table = collections.defaultdict(list, {"x": [1]})
    for protocol in range(6):
        got = Unpickler(pickle.dumps((ordered, table, collections.Counter("aab")), protocol)).load()
        assert [list(item.items()) for item in got] == [[("b", 1), ("a", 2)], [("x", [1])], [("a", 2), ("b", 1)]]
        assert all(isinstance(item, Items) for item in got)


class Thing:
    """An object of a class that the machine doesn't know."""

    def __init__(self) -> None:
        self.size, self.inner = 3, {"x": 1}


class Many(list[int]):
    pass


class Table(dict[str, int]):
    pass


def test_unknown_objects_become_stubs() -> None:
    for protocol in range(6):
        made = Unpickler(pickle.dumps(Thing(), protocol)).load()
        assert isinstance(made, Stub) and made.class_name == "tests.readers.pytorch.test_unpickle.Thing"
        assert made.attributes == {"size": 3, "inner": {"x": 1}}
        assert Unpickler(pickle.dumps(Many([1, 2]), protocol)).load().items == [1, 2]
        assert Unpickler(pickle.dumps(Table(a=1), protocol)).load().entries == {"a": 1}


def test_names_are_never_imported() -> None:
    got = Unpickler(b"cno.such.module\nThing.inner\n.").load()
    assert got == Global("no.such.module", "Thing.inner")
    nested = Unpickler(b"c__builtin__\ngetattr\n(cmodule\nOuter\n" + text("Inner") + b"tR.").load()
    assert nested == Global("module", "Outer.Inner")


def test_types_that_dill_names_by_a_call() -> None:
    assert Unpickler(b"cdill._dill\n_load_type\n" + text("set") + b"\x85R](K\x01K\x02e\x85R.").load() == {1, 2}


def test_new_with_keyword_arguments() -> None:
    partial = b"cfunctools\npartial\n(cm\nC.__new__\ntR(cm\nC.__new__\n(cm\nC\nK\x01t}" + text("size") + b"K\x02sNtb)R."
    made = Unpickler(b"\x80\x02" + partial).load()
    assert made.cls == Global("m", "C") and made.args == (1,) and made.kwargs == {"size": 2}


def test_state_with_slots() -> None:
    made = Unpickler(b"\x80\x02cm\nC\n)\x81}" + text("a") + b"K\x01s}" + text("s") + b"K\x02s\x86b.").load()
    assert made.attributes == {"a": 1} and made.slots == {"s": 2}


CALLED = [
    b"cposix\nsystem\n(" + text("touch x") + b"tR.",
    b"(cposix\nsystem\nS'touch x'\no.",
    b"(S'touch x'\niposix\nsystem\n.",
    b"cposix\nsystem\n)\x81.",
]


@pytest.mark.parametrize("pickled", CALLED)
def test_calls_are_remembered_and_not_made(pickled: bytes) -> None:
    machine = Unpickler(pickled)
    made = machine.load()
    assert isinstance(made, Stub) and made.class_name == "posix.system"


BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "no stop": b"K\x01",
    "unknown opcode": b"\xff.",
    "protocol 6": b"\x80\x06N.",
    "empty stack": b".",
    "reduce of nothing": b"R.",
    "no mark": b"t.",
    "cut number": b"J\x01",
    "text longer than the file": b"X\xff\xff\xff\xff",
    "text of 2**63 bytes": b"\x8d" + struct.pack("<Q", 1 << 63) + b"a.",
    "bytes of 2**62 bytes": b"\x8e" + struct.pack("<Q", 1 << 62) + b"a.",
    "bytearray of 32 GB": b"\x96" + struct.pack("<Q", 32 << 30) + b".",
    "integer of 2 GB": b"\x8b\xff\xff\xff\x7f.",
    "integer of negative length": b"\x8b\xff\xff\xff\xff.",
    "integer in words": b"Iseven\n.",
    "too many digits": b"I" + b"1" * 5000 + b"\n.",
    "float in words": b"Fpi\n.",
    "line without end": b"Cabc"[1:2] + b"abc",
    "text that isn't UTF-8": b"X\x01\x00\x00\x00\xff.",
    "string without quotes": b"Sabc\n.",
    "string with a broken escape": b"S'\\x1'\n.",
    "memo entry that isn't there": b"h\x05.",
    "odd entries": b"}(K\x01u.",
    "list as key": b"}]K\x01s.",
    "dict as key": b"}}K\x01s.",
    "list in a tuple as key": b"}]\x85K\x01s.",
    "entry of a number": b"K\x01K\x02K\x03s.",
    "append to a tuple": b")K\x01a.",
    "add to a number": b"K\x01(K\x02\x90.",
    "call of a number": b"K\x01)R.",
    "arguments that are a list": b"cm\nf\n]R.",
    "class that is a number": b"K\x01)\x81.",
    "keyword arguments that are a list": b"cm\nC\n)]\x92.",
    "state for a list": b"]K\x01b.",
    "state for a class": b"cm\nC\n}b.",
    "name of numbers": b"K\x01K\x02\x93.",
    "extension": b"\x82\x01.",
    "out-of-band buffer": b"\x97.",
    "outside object": b"K\x01Q.",
    "ordered dict of a call's result": b"ccollections\nOrderedDict\n(cm\nf\n)RtR.",
    "set of a call's result": b"c__builtin__\nset\n(cm\nf\n)RtR.",
    "object of no class": b"(o.",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pickles_are_refused(name: str) -> None:
    with pytest.raises(FormatError):
        Unpickler(BROKEN[name]).load()


def doubled(depth: int, start: bytes, twice: bytes) -> bytes:
    """Nesting in which each level holds the one before twice."""
    return start + twice * depth


COLLIDING = [b"\x8a\x0c" + (i * ((1 << 61) - 1)).to_bytes(12, "little") + b"N" for i in range(1, 50_000)]

BOMBS: dict[str, bytes] = {
    "a million lists in lists": b"]" * 1_000_000 + b"a" * 999_999 + b".",
    "a million tuples in tuples": b")" + b"\x85" * 1_000_000 + b".",
    "a hundred thousand calls of calls": b"cm\nC\n" + b")R" * 100_000 + b".",
    "frozensets in frozensets": b"(" * 100_000 + b"\x91" * 100_000 + b".",
    "tuples whose hash takes for ever": b"}" + doubled(80, b")", b"2\x86") + b"K\x01s.",
    "lists of 2**80 leaves": doubled(80, b"]", b"q\x00](h\x00h\x00e") + b".",
    "a million marks": b"(" * 1_000_000 + b".",
    "long name": b"c" + b"a" * 2_000_000 + b"\nb\n.",
    "integer of 2 MB": b"\x8b" + struct.pack("<i", 2_000_000) + b"\x7f" * 2_000_000 + b".",
    "keys that collide": b"}(" + b"".join(COLLIDING) + b"u.",
    "getattr of getattr": b"cm\nC\nq\x00" + (b"0c__builtin__\ngetattr\n(h\x00" + text("x" * 90) + b"tRq\x00") * 2000 + b".",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_soon(name: str) -> None:
    with work.at_most(40, name):
        try:
            made = Unpickler(BOMBS[name]).load()
            del made
        except FormatError as problem:
            assert len(str(problem)) < 1000


def test_the_budget_ends_endless_building() -> None:
    with pytest.raises(FormatError, match="bomb"):
        Unpickler(b"]" * 1001 + b".", budget=Budget(cost=1000)).load()


def test_large_keys_are_equal_to_themselves_alone() -> None:
    got = Unpickler(b"}" + b"\x8a\x0a" + b"\x7f" * 10 + b"K\x01s.").load()
    assert [type(key) for key in got] == [Opaque]


FRAGMENTS = [bytes([code]) for code in b"}])(tuseaRbQ.02Nldo1"] + [bytes([code]) for code in range(0x81, 0x95)]
FRAGMENTS += [
    b"\x80\x02",
    b"q\x00",
    b"h\x00",
    b"K\x03",
    b"im\nC\n",
    b"V\\u00e9\n",
    b"S'a'\n",
    b"I7\n",
    b"L7L\n",
    b"F1.5\n",
    b"p1\n",
    b"g1\n",
]
FRAGMENTS += [text("storage"), text("0")]
FRAGMENTS += [
    b"c" + name.replace(" ", "\n").encode() + b"\n"
    for name in (
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_tensor_v3",
        "torch._utils _rebuild_qtensor",
        "torch._utils _rebuild_sparse_tensor",
        "torch._utils _rebuild_parameter",
        "torch._tensor _rebuild_from_type_v2",
        "torch.storage _load_from_bytes",
        "torch.nn.parameter Parameter",
        "torch FloatStorage",
        "torch Size",
        "torch float8_e5m2",
        "collections OrderedDict",
        "collections Counter",
        "__builtin__ getattr",
        "__builtin__ set",
        "__builtin__ bytearray",
        "_codecs encode",
        "copy_reg _reconstructor",
        "copy_reg __newobj__",
        "functools partial",
        "numpy.core.multiarray _reconstruct",
        "numpy.core.numeric _frombuffer",
        "numpy dtype",
    )
]


@given(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=3), max_size=60).map(b"".join))
@settings(max_examples=3000, deadline=None)
def test_any_sequence_of_opcodes_is_read_or_refused(data: bytes) -> None:
    from converters.readers.pytorch.archives.stream import nested_storage
    from converters.readers.pytorch.tensors import tensor_rules

    budget = Budget()
    try:
        Unpickler(data + b".", tensor_rules(None, nested_storage(budget)), budget=budget).load()
    except ConversionError as problem:
        assert len(str(problem)) < 5000
