"""Pairs of classes for one net, as two authors would have written it: what is right, and what only looks alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn


class Chain(nn.Module):
    """Layers one behind the other, and what stands between them."""

    def __init__(self, *layers: nn.Module, between: Callable[[torch.Tensor], torch.Tensor] = F.relu) -> None:
        super().__init__()
        self.layers, self.between = nn.ModuleList(layers), between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = self.between(layer(x))
        return self.layers[-1](x)  # type: ignore[no-any-return]


def relu_chain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


class Functional(nn.Module):
    """Weights that are handed to functions."""

    def __init__(self, *, turned: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(144, 5)
        self.kernels = nn.ParameterList([nn.Parameter(torch.zeros(4, 6, 3, 3)), nn.Parameter(torch.zeros(6, 3, 3, 3))])
        self.shifts = nn.ParameterDict({"b": nn.Parameter(torch.zeros(4)), "a": nn.Parameter(torch.zeros(6))})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(F.conv2d(x, self.kernels[1], self.shifts["a"], padding=1))
        x = F.relu(F.conv2d(x, self.kernels[0], self.shifts["b"]))
        return F.linear(torch.flatten(x, 1), self.fc.weight, self.fc.bias)


class Wrapped(nn.Module):
    """One module, and what is done before it."""

    def __init__(self, inner: nn.Module, before: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.inner, self.before = inner, before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(self.before(x))  # type: ignore[no-any-return]


class Padded(nn.Module):
    """Zeros around the image in a module of their own."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.pad, self.a, self.b, self.fc = nn.ConstantPad2d(1, value), nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), nn.Linear(144, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.b(F.relu(self.a(self.pad(x))))).flatten(1))  # type: ignore[no-any-return]


class RowsFirst(nn.Module):
    """Flattens rows, columns, channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 3), nn.Linear(144, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.b(F.relu(self.a(x)))).permute(0, 2, 3, 1).flatten(1))  # type: ignore[no-any-return]


class Blue(RowsFirst):
    """Turns the channels of the image round."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.b(F.relu(self.a(x.flip(1))))).flatten(1))  # type: ignore[no-any-return]


class Next(nn.Module):
    """ConvNeXt's block: 1x1 convolutions or linear layers, and a scale of its own."""

    def __init__(self, *, linear: bool, eps: float = 1e-6, scaled: bool = True) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(8) + 0.5)
        self.deep, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.LayerNorm(8, eps)
        self.up, self.down = (nn.Linear(8, 16), nn.Linear(16, 8)) if linear else (nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1))
        self.linear, self.scaled = linear, scaled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.deep(x).permute(0, 2, 3, 1))
        if not self.linear:
            y = self.down(F.gelu(self.up(y.permute(0, 3, 1, 2))))
            return x + (y * self.gamma[:, None, None] if self.scaled else y)
        y = self.down(F.gelu(self.up(y)))
        return x + (self.gamma * y if self.scaled else y).permute(0, 3, 1, 2)


class Nexts(nn.Module):
    def __init__(self, **options: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Next(**options) for _ in range(3)))  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Self-attention; how: queries, keys and values in "one" layer, in "three", or torch's own "module"."""

    def __init__(self, how: str, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.how, self.heads = how, heads
        if how == "module":
            self.inner = nn.MultiheadAttention(width, heads, batch_first=True)
            return
        self.out = nn.Linear(width, width)
        if how == "one":
            self.qkv = nn.Linear(width, 3 * width)
        elif how == "raw":
            self.w, self.b = nn.Parameter(torch.rand(3 * width, width)), nn.Parameter(torch.rand(3 * width))
        else:
            self.v, self.k, self.q = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "module":
            return self.inner(x, x, x, need_weights=False)[0]  # type: ignore[no-any-return]
        if self.how == "one":
            q, k, v = self.qkv(x).chunk(3, -1)
        elif self.how == "raw":
            q, k, v = (F.linear(x, w, b) for w, b in zip(self.w.chunk(3), self.b.chunk(3), strict=True))
        else:
            q, k, v = self.q(x), self.k(x), self.v(x)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), -1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """A transformer's layer by hand, or torch's own."""

    def __init__(self, *, own: bool, first: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.first = first
        if not own:
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=first)
            return
        self.attention, self.up, self.down = Attention("three"), nn.Linear(8, 16), nn.Linear(16, 8)
        self.norms = nn.ModuleList(nn.LayerNorm(8, eps) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "norms"):
            return self.layer(x)  # type: ignore[no-any-return]
        one, two = self.norms
        if self.first:
            x = x + self.attention(one(x))
            return x + self.down(F.relu(self.up(two(x))))  # type: ignore[no-any-return]
        x = one(x + self.attention(x))
        return two(x + self.down(F.relu(self.up(x))))  # type: ignore[no-any-return]


class Vision(nn.Module):
    """Patches, a token and places of the root's own, and a layer."""

    def __init__(self, *, own: bool) -> None:
        super().__init__()
        self.cls_token, self.pos_embed = nn.Parameter(torch.rand(1, 1, 8)), nn.Parameter(torch.rand(1, 5, 8))
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.layer, self.head = Encoder(own=own, first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.layer(x)[:, 0])  # type: ignore[no-any-return]


class Turned(nn.Module):
    """A linear layer with its weight as (inputs, outputs), under words of its own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.nx, self.nf = nn.Parameter(torch.rand(inputs, outputs)), nn.Parameter(torch.rand(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.nx + self.nf


class Frozen(nn.Module):
    """A batch norm that is written out, its numbers buffers."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(channels) + 0.5)
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()  # type: ignore[operator]
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]  # type: ignore[operator, index]


class Normed(nn.Module):
    """conv, norm, relu, twice, with or without what is folded."""

    def __init__(self, norm: Callable[[int], nn.Module], *, bias: bool) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3, bias=bias), nn.Conv2d(8, 8, 3, bias=bias), nn.Linear(8, 4)
        self.m, self.n = norm(8), norm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.n(self.b(F.relu(self.m(self.a(x)))))).mean((2, 3)))  # type: ignore[no-any-return]


class Tied(nn.Module):
    """A table that answers are compared with; how: "tied", "function" or "apart"."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.table, self.fc, self.how = nn.Linear(6, 12, bias=False), nn.Linear(12, 6), how
        if how != "function":
            self.head = nn.Linear(6, 12, bias=False)
        if how == "tied":
            self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.fc(torch.tanh(self.table(x))))
        return F.linear(x, self.table.weight) if self.how == "function" else self.head(x)


class Grouped(nn.Module):
    """A convolution in two groups, as one or as two."""

    def __init__(self, *, apart: bool) -> None:
        super().__init__()
        self.a, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(6, 2, 1)
        self.parts = nn.ModuleList(nn.Conv2d(4, 3, 3) for _ in range(2)) if apart else nn.ModuleList([nn.Conv2d(8, 6, 3, groups=2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.a(x))
        return self.c(torch.cat([part(y) for part, y in zip(self.parts, x.chunk(len(self.parts), 1), strict=True)], 1))  # type: ignore[no-any-return]


class Buffered(nn.Module):
    """Numbers of the class's own beside the weights, in the state_dict and not."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Functional()
        self.register_buffer("position_ids", torch.arange(4))
        self.register_buffer("one", torch.ones(1, 3, 1, 1))
        self.register_buffer("zero", torch.zeros(1, 3, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net((x - self.zero) / self.one)  # type: ignore[no-any-return]


class Cells(nn.Module):
    """A recurrent layer, or its cell in a loop."""

    def __init__(self, *, cell: bool, kind: str = "LSTM") -> None:
        super().__init__()
        self.inner = getattr(nn, f"{kind}Cell")(4, 6) if cell else getattr(nn, kind)(4, 6, batch_first=True)
        self.fc, self.kind = nn.Linear(6, 3), kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not isinstance(self.inner, nn.RNNCellBase):
            return self.fc(self.inner(x)[0][:, -1])  # type: ignore[no-any-return]
        state = None
        for step in x.unbind(1):
            state = self.inner(step, state)
        return self.fc(state[0] if self.kind == "LSTM" else state)  # type: ignore[no-any-return, index]


class Reversed(nn.Module):
    """Layers that are listed the other way round, all of one shape."""

    def __init__(self, *, backward: bool) -> None:
        super().__init__()
        self.list, self.backward = nn.ModuleList(nn.Linear(6, 6) for _ in range(4)), backward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in list(self.list)[:: -1 if self.backward else 1]:
            x = torch.tanh(layer(x))
        return x


@dataclass
class Pair:
    """says: of a pair that isn't one net, what the refusal has to name; "" for one that is."""

    name: str
    source: Callable[[], nn.Module]
    target: Callable[[], nn.Module]
    shape: Sequence[int]
    says: str = ""


IMAGE, WORDS = (2, 3, 8, 8), (2, 5, 8)


def _bounded() -> nn.Module:
    net = relu_chain()
    net[1] = nn.ReLU6()  # type: ignore[index]
    return net


def pairs() -> list[Pair]:
    """All of them."""
    norm, none = nn.BatchNorm2d, nn.Identity
    return [
        Pair("weights in functions", relu_chain, Functional, IMAGE),
        Pair("buffers of one's own", relu_chain, Buffered, IMAGE),
        Pair("padding in a module", relu_chain, Padded, IMAGE),
        Pair("padding without a module", Padded, relu_chain, IMAGE),
        Pair("padding with ones", relu_chain, partial(Padded, 1.0), IMAGE, "your class pad, a"),
        Pair("flattened rows first", relu_chain, RowsFirst, IMAGE),
        Pair("flattened channels first", RowsFirst, relu_chain, IMAGE),
        Pair("blue first", relu_chain, Blue, IMAGE),
        Pair("ReLU6 for ReLU", relu_chain, _bounded, IMAGE, "your class 1, 2"),
        Pair("ReLU for ReLU6", _bounded, relu_chain, IMAGE, "your class 1, 2"),
        Pair("linear for 1x1", partial(Nexts, linear=False), partial(Nexts, linear=True), (2, 8, 6, 6)),
        Pair("1x1 for linear", partial(Nexts, linear=True), partial(Nexts, linear=False), (2, 8, 6, 6)),
        Pair("another epsilon", partial(Nexts, linear=True), partial(Nexts, linear=True, eps=1e-5), (2, 8, 6, 6), "norm"),
        Pair("no scale", partial(Nexts, linear=True), partial(Nexts, linear=True, scaled=False), (2, 8, 6, 6), "behind blocks.0.down"),
        Pair("three for one", partial(Attention, "one"), partial(Attention, "three"), WORDS),
        Pair("one for three", partial(Attention, "three"), partial(Attention, "one"), WORDS),
        Pair("raw for three", partial(Attention, "three"), partial(Attention, "raw"), WORDS),
        Pair("module for three", partial(Attention, "three"), partial(Attention, "module"), WORDS),
        Pair("module for one", partial(Attention, "one"), partial(Attention, "module"), WORDS),
        Pair("three for module", partial(Attention, "module"), partial(Attention, "three"), WORDS),
        Pair("other heads", partial(Attention, "one"), partial(Attention, "three", heads=4), WORDS, "out"),
        Pair("torch's layer for one's own", partial(Encoder, own=True), partial(Encoder, own=False), WORDS),
        Pair("one's own layer for torch's", partial(Encoder, own=False), partial(Encoder, own=True), WORDS),
        Pair("norms first", partial(Encoder, own=False), partial(Encoder, own=True, first=True), WORDS, "norm"),
        Pair("token and places", partial(Vision, own=True), partial(Vision, own=False), IMAGE),
        Pair("token and places of one's own", partial(Vision, own=False), partial(Vision, own=True), IMAGE),
        Pair("turned matrices", lambda: Chain(nn.Linear(6, 6), nn.Linear(6, 6)), lambda: Chain(Turned(6, 6), Turned(6, 6)), (2, 6)),
        Pair("norm written out", partial(Normed, norm, bias=False), partial(Normed, Frozen, bias=False), IMAGE),
        Pair("norm folded in", partial(Normed, norm, bias=False), partial(Normed, none, bias=True), IMAGE),
        Pair("norm and bias folded in", partial(Normed, norm, bias=True), partial(Normed, none, bias=True), IMAGE),
        Pair("bias folded in the norm", partial(Normed, norm, bias=True), partial(Normed, norm, bias=False), IMAGE),
        Pair("a bias more", partial(Normed, norm, bias=False), partial(Normed, norm, bias=True), IMAGE),
        Pair("norm taken apart", partial(Normed, none, bias=True), partial(Normed, norm, bias=False), IMAGE),
        Pair("tied", partial(Tied, "tied"), partial(Tied, "tied"), (2, 6)),
        Pair("tied by a function", partial(Tied, "tied"), partial(Tied, "function"), (2, 6)),
        Pair("not tied", partial(Tied, "function"), partial(Tied, "apart"), (2, 6)),
        Pair("tied what isn't", partial(Tied, "apart"), partial(Tied, "tied"), (2, 6), "head"),
        Pair("tied by a function what isn't", partial(Tied, "apart"), partial(Tied, "function"), (2, 6), "head"),
        Pair("groups apart", partial(Grouped, apart=False), partial(Grouped, apart=True), IMAGE),
        Pair("cells", partial(Cells, cell=False), partial(Cells, cell=True), (2, 3, 4)),
        Pair("cells of a GRU", partial(Cells, cell=False, kind="GRU"), partial(Cells, cell=True, kind="GRU"), (2, 3, 4)),
        Pair("listed backward", partial(Reversed, backward=False), partial(Reversed, backward=True), (2, 6)),
        Pair("GELU by tanh", lambda: Chain(nn.Linear(6, 6), nn.Linear(6, 6), between=F.gelu),
             lambda: Chain(nn.Linear(6, 6), nn.GELU("tanh"), nn.Linear(6, 6), between=torch.Tensor.contiguous), (2, 6), "layers"),
        Pair("padding by reflection", relu_chain, _reflected, IMAGE, "and 0 of your class"),
        Pair("dropout that never sleeps", relu_chain, lambda: Wrapped(relu_chain(), F.dropout), IMAGE, "from the start"),
    ]  # fmt: skip


def _reflected() -> nn.Module:
    net = relu_chain()
    net[0] = nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect")  # type: ignore[index]
    return net
