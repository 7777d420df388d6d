"""Model classes of the kinds people pickle whole; the reader under test never imports them."""

from __future__ import annotations

import collections
import enum
import functools
import pathlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn


class Size(enum.Enum):
    SMALL = 1


class Point(NamedTuple):
    x: int
    y: Any


class Net(nn.Module):
    """Convolution, norm and a linear layer, a child in a nested class."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.head = Net.Head()


class Attributes(nn.Module):
    """Every kind of attribute that isn't a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.decoys = [nn.Linear(2, 2), {"w": torch.ones(3)}]
        self.plain = torch.zeros(4)
        self.array = np.arange(6.0).reshape(2, 3)
        self.objects = np.array([1, "a", None], dtype=object)
        self.scalar = np.float32(3)
        self.place = pathlib.PurePosixPath("/a")
        self.size = Size.SMALL
        self.point = Point(1, torch.ones(2))
        self.sets = ({1, 2}, frozenset([3]), collections.Counter("aab"), collections.deque([1, torch.ones(1)]))
        self.tables = (collections.defaultdict(list, a=[1]), collections.OrderedDict(b=2))
        self.numbers = (1 << 70, -(1 << 40), 1.5, 1j, True, None, b"raw", bytearray(b"x"), range(3), slice(1, 2))
        self.torch_things = (torch.float16, torch.device("cpu"), torch.Size([1, 2]), torch.strided, torch.channels_last)
        self.functions = (len, functools.partial(max, 1), self.forward, nn.functional.relu, nn.Linear)
        self.optimizer = torch.optim.Adam(self.parameters())
        self.random = np.random.RandomState(0)
        self.complaint = ValueError("no")
        self.tuple_keys = {(1, (2, "x")): 1, None: 2, 1.5: 3}


class Buffers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temporary", torch.ones(2), persistent=False)
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("none", None)
        self.register_parameter("weight", nn.Parameter(torch.ones(2)))
        self.register_parameter("nothing", None)
        self.sub = nn.Linear(2, 1)
        self.register_module("absent", None)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.emb.weight
        shared = nn.Linear(2, 2)
        self.a, self.b = shared, nn.Sequential(shared, shared)
        self.register_buffer("mask", torch.arange(12.0).reshape(3, 4))
        self.register_buffer("row", self.mask[1])
        self.register_buffer("column", self.mask[:, 2])


class Moved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(1, 1), nn.Linear(1, 2)
        again = self.a
        del self.a
        self.a = again
        self.b.bias = None
        self.w = nn.Parameter(torch.ones(1))


class DictModule(nn.Module, dict):  # type: ignore[misc]
    def __init__(self) -> None:
        dict.__init__(self)
        nn.Module.__init__(self)
        self["decoy"] = torch.ones(1)
        self.fc = nn.Linear(2, 1)

    def __hash__(self) -> int:
        return id(self)


class ListModule(list, nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        list.__init__(self)
        nn.Module.__init__(self)
        self.append(torch.ones(1))
        self.fc = nn.Linear(2, 1)

    def __hash__(self) -> int:
        return id(self)


class Slots(nn.Module):
    __slots__ = ("extra",)

    def __init__(self) -> None:
        super().__init__()
        self.extra = torch.ones(2)
        self.fc = nn.Linear(2, 1)


class State(nn.Module):
    """Pickles through __getstate__ and __setstate__."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 1)
        self.lock = object()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class Reduced(nn.Module):
    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.fc = nn.Linear(size, 1)

    def __reduce__(self) -> Any:
        return Reduced, (2,), self.__dict__


class WithArguments(nn.Module):
    def __new__(cls, *args: Any, **kwargs: Any) -> WithArguments:
        return super().__new__(cls)

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.fc = nn.Linear(size, 1)

    def __getnewargs_ex__(self) -> Any:
        return (1,), {"size": 2}


class Weight(nn.Parameter):
    """A Parameter of a class of its own."""


class Values(torch.Tensor):
    """A Tensor of a class of its own."""


class ParameterSubclass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = Weight(torch.arange(3.0))
        self.v = nn.Parameter(torch.ones(2))
        self.v.note = "kept nowhere"
        self.register_buffer("b", torch.ones(2).as_subclass(Values))


class Hooked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.fc.register_forward_hook(self.bound)
        self.fc.register_forward_pre_hook(functools.partial(hook, 1))
        self.register_forward_hook(hook)
        self.me = self.bound

    def bound(self, *args: Any) -> None:
        """A hook."""


def hook(*args: Any) -> None:
    """A hook that isn't a method."""


class OddNorm(nn.BatchNorm1d):
    """A subclass of a module whose version is 2."""


class Ünïcode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.größe = nn.Linear(2, 2)


class Trainer:
    """An object that holds a model."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.epoch = model, 3
