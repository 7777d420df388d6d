"""What a pickle's objects are read as: names, inert Stubs, and dictionaries and strings that remember what they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from converters.errors import printable


@dataclass(frozen=True)
class Global:
    """A class or function that the file names. Only its name is known; it is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Stub:
    """An object of a class that isn't on the list: what the file says of it, and nothing more.

    cls: the class, a Global (or a Stub, where the class itself was made by a call).
    args, kwargs: what its constructor would have been given.
    attributes: its `__dict__` as BUILD gave it; slots: values of `__slots__`; state: any other state it was given.
    items, entries: what was appended (a list's subclass) or set by key (a dict's subclass).
    data: the tensor, for a Stub that stands for one.
    """

    __slots__ = ("args", "attributes", "cls", "data", "entries", "items", "kwargs", "slots", "state")

    def __init__(self, cls: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> None:
        self.cls, self.args, self.kwargs = cls, args, kwargs
        self.attributes: dict[str, Any] = {}
        self.slots: dict[str, Any] | None = None
        self.items: list[Any] | None = None
        self.entries: dict[Any, Any] | None = None
        self.state: Any = None
        self.data: Any = None

    @property
    def class_name(self) -> str:
        """`package.module.Class`, for messages and tables."""
        cls: Any = self.cls
        for _ in range(100):
            if isinstance(cls, Global):
                return str(cls)
            if not isinstance(cls, Stub):
                break
            # A class pickled by value (cloudpickle) gives its name to the call that makes it.
            named = [arg for arg in cls.args if isinstance(arg, str)]
            if named:
                return str(named[0])
            cls = cls.cls
        return "a class without a name"

    def __repr__(self) -> str:
        return f"Stub({printable(self.class_name)})"


class Items(dict[Any, Any]):
    """A dictionary that is more than a dict (OrderedDict, defaultdict): its class's name, and its attributes (`_metadata`)."""

    __slots__ = ("attributes", "cls")

    def __init__(self, cls: Global) -> None:
        super().__init__()
        self.cls = cls
        self.attributes: dict[str, Any] = {}


class ByteString(str):
    """A Python 2 string, which is bytes: text where they are ASCII or UTF-8."""

    __slots__ = ()
    encoding = "utf-8"

    @property
    def raw(self) -> bytes:
        """The bytes that the file has."""
        return self.encode(self.encoding)


class LatinString(ByteString):
    """A Python 2 string that isn't UTF-8, read as Latin-1."""

    __slots__ = ()
    encoding = "latin-1"


class Opaque:
    """A dictionary's key that is too large to be compared; it is equal to itself alone."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value
