"""Whole image models of Lua Torch by their published definitions, at any width, with seeded weights.

Each part is written twice: the module as Lua makes it, and the same in PyTorch by hand, which knows nothing of the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from tests.readers.torch7.lua import Object, module, sizes
from tests.readers.torch7.test_nngraph import Graph

T = torch.Tensor


@dataclass
class Part:
    """A module, and what it does to a tensor."""

    made: Object
    run: Callable[[Any], Any]


class Parts:
    """Makes parts; every weight is drawn in turn from one stream."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def draw(self, *shape: int, fan: int = 0) -> np.ndarray:
        """Normal numbers, small enough for a deep net."""
        return (self.rng.standard_normal(shape) * np.sqrt(1.6 / (fan or 4))).astype(np.float32)

    def conv(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        pad: int | tuple[int, int] = 0,
        *,
        kind: str = "cudnn.SpatialConvolution",
        bias: bool = True,
        dilation: int = 1,
        flat: bool = False,
    ) -> Part:
        """kernel and pad: one number, or width and height as Lua has them. flat: the weight is SpatialConvolutionMM's matrix."""
        (kw, kh), (pw, ph) = (n if isinstance(n, tuple) else (n, n) for n in (kernel, pad))
        w, b = self.draw(outputs, inputs, kh, kw, fan=inputs * kh * kw), self.draw(outputs) if bias else None
        fields = {"nInputPlane": inputs, "nOutputPlane": outputs, "kW": kw, "kH": kh, "dW": stride, "dH": stride, "padW": pw, "padH": ph}
        if dilation > 1:
            fields |= {"dilationW": dilation, "dilationH": dilation}
        made = module(kind, weight=w.reshape(outputs, -1) if flat else w, bias=b, **fields)
        weight, shift = torch.from_numpy(w), None if b is None else torch.from_numpy(b)
        return Part(made, lambda x: F.conv2d(x, weight, shift, stride, (ph, pw), dilation))

    def full(self, inputs: int, outputs: int, kernel: int, stride: int, pad: int = 0, adj: int = 0) -> Part:
        """nn.SpatialFullConvolution."""
        w, b = self.draw(inputs, outputs, kernel, kernel, fan=inputs * kernel), self.draw(outputs)
        fields = {"nInputPlane": inputs, "nOutputPlane": outputs, "kW": kernel, "kH": kernel, "dW": stride, "dH": stride}
        made = module("nn.SpatialFullConvolution", weight=w, bias=b, **fields, padW=pad, padH=pad, adjW=adj, adjH=adj)
        return Part(made, lambda x: F.conv_transpose2d(x, torch.from_numpy(w), torch.from_numpy(b), stride, pad, adj))

    def norm(self, width: int, eps: float = 1e-5) -> Part:
        """nn.SpatialBatchNormalization with running statistics."""
        weight, bias = self.rng.uniform(0.8, 1.2, width).astype(np.float32), self.draw(width)
        mean, variance = self.draw(width), self.rng.uniform(0.7, 1.5, width).astype(np.float32)
        names = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
        made = module("nn.SpatialBatchNormalization", version=2, eps=eps, momentum=0.1, affine=True, **names)
        given = [torch.from_numpy(a) for a in (mean, variance, weight, bias)]
        return Part(made, lambda x: F.batch_norm(x, *given, eps=eps))

    def instance_norm(self, width: int) -> Part:
        """CycleGAN's: each image's own statistics, whatever the fields hold."""
        weight, bias = self.rng.uniform(0.8, 1.2, width).astype(np.float32), self.draw(width)
        stale = {"running_mean": self.draw(width), "running_var": self.rng.uniform(1, 2, width).astype(np.float32)}
        fields = {"eps": 1e-5, "momentum": 0.0, "affine": True, "nOutput": width, "prev_batch_size": 1}
        made = module("nn.InstanceNormalization", weight=weight, bias=bias, **stale, **fields)
        return Part(made, lambda x: F.instance_norm(x, weight=torch.from_numpy(weight), bias=torch.from_numpy(bias)))

    def fixed_norm(self, width: int) -> Part:
        """DeepMask's batch normalization made into numbers: x a + b, in place."""
        a, b = self.rng.uniform(0.8, 1.2, (1, width, 1, 1)).astype(np.float32), self.draw(1, width, 1, 1)
        made = module("nn.SpatialConstDiagonal", a=a, b=b, inplace=True)
        return Part(made, lambda x: x * torch.from_numpy(a) + torch.from_numpy(b))

    def linear(self, inputs: int, outputs: int) -> Part:
        w, b = self.draw(outputs, inputs, fan=inputs), self.draw(outputs)
        return Part(module("nn.Linear", weight=w, bias=b), lambda x: F.linear(x, torch.from_numpy(w), torch.from_numpy(b)))

    def prelu(self, width: int) -> Part:
        w = self.rng.uniform(0.1, 0.4, width).astype(np.float32)
        return Part(module("nn.PReLU", weight=w, nOutputPlane=width), lambda x: F.prelu(x, torch.from_numpy(w)))


def seq(*parts: Part) -> Part:
    def run(x: Any) -> Any:
        for part in parts:
            x = part.run(x)
        return x

    return Part(module("nn.Sequential", *(part.made for part in parts)), run)


def both(*parts: Part) -> Part:
    """nn.ConcatTable."""
    return Part(module("nn.ConcatTable", *(part.made for part in parts)), lambda x: [part.run(x) for part in parts])


def parallel(*parts: Part) -> Part:
    """nn.ParallelTable."""
    made = module("nn.ParallelTable", *(part.made for part in parts))
    return Part(made, lambda x: [part.run(item) for part, item in zip(parts, x, strict=True)])


def relu(kind: str = "cudnn.ReLU", *, inplace: bool = True) -> Part:
    return Part(module(kind, inplace=inplace, threshold=0, val=0), F.relu)


def plain(typename: str, run: Callable[[Any], Any], **fields: Any) -> Part:
    return Part(module(typename, **fields), run)


def identity() -> Part:
    return plain("nn.Identity", lambda x: x)


def add(*, inplace: bool = False) -> Part:
    return plain("nn.CAddTable", lambda x: sum(x[1:], x[0]), inplace=inplace)


def pool(kernel: int, stride: int, pad: int = 0, kind: str = "nn.SpatialMaxPooling") -> Part:
    fields = {"kW": kernel, "kH": kernel, "dW": stride, "dH": stride, "padW": pad, "padH": pad}
    if "Average" in kind:
        fields |= {"ceil_mode": False, "count_include_pad": True, "divide": True}
        return plain(kind, lambda x: F.avg_pool2d(x, kernel, stride), **fields)
    return plain(kind, lambda x: F.max_pool2d(x, kernel, stride, pad), **fields, ceil_mode=False)


def mirrored(pad: int) -> Part:
    """nn.SpatialSymmetricPadding: the mirror stands on the edge, which comes twice."""

    def run(x: T) -> T:
        for axis in (2, 3):
            before, after = x.narrow(axis, 0, pad).flip(axis), x.narrow(axis, x.shape[axis] - pad, pad).flip(axis)
            x = torch.cat([before, x, after], axis)
        return x

    return plain("nn.SpatialSymmetricPadding", run, pad_l=pad, pad_r=pad, pad_t=pad, pad_b=pad)


def cropped(pixels: int) -> Part:
    return plain("nn.SpatialZeroPadding", lambda x: F.pad(x, [-pixels] * 4), pad_l=-pixels, pad_r=-pixels, pad_t=-pixels, pad_b=-pixels)


def reflected(pad: int) -> Part:
    return plain("nn.SpatialReflectionPadding", lambda x: F.pad(x, [pad] * 4, "reflect"), pad_l=pad, pad_r=pad, pad_t=pad, pad_b=pad)


def view(*dims: int) -> Part:
    return plain("nn.View", lambda x: x.reshape(dims), size=sizes(*dims), numElements=int(np.prod(dims)))


# -- OpenFace: models/openface/nn4.small2.def.lua, with dpnn's Inception -----------------------------------------------


def inception(make: Parts, inputs: int, kernels: Sequence[tuple[int, int, int]], reduce: Sequence[int], pooled: Part) -> Part:
    """kernels: size, stride and outputs of each column; reduce: widths of the 1 x 1 convolutions, the columns' first, 0 for none."""

    def unit(width: int, outputs: int, kernel: int = 1, stride: int = 1) -> list[Part]:
        kind = "nn.SpatialConvolution"
        return [make.conv(width, outputs, kernel, stride, kernel // 2, kind=kind), make.norm(outputs), relu("nn.ReLU", inplace=False)]

    columns = [
        seq(*unit(inputs, narrow), *unit(narrow, outputs, kernel, stride))
        for (kernel, stride, outputs), narrow in zip(kernels, reduce, strict=False)
    ]
    behind, alone = reduce[len(kernels) :]
    columns.append(seq(pooled, *(unit(inputs, behind) if behind else [])))
    if alone:
        columns.append(seq(*unit(inputs, alone)))

    def run(x: T) -> T:
        answers = [column.run(x) for column in columns]
        height, width = (max(a.shape[axis] for a in answers) for axis in (2, 3))
        out = [F.pad(a, _centered(width, a.shape[3]) + _centered(height, a.shape[2])) for a in answers]
        return torch.cat(out, 1)

    return Part(module("nn.Inception", module("nn.DepthConcat", *(column.made for column in columns), dimension=2)), run)


def _centered(whole: int, part: int) -> list[int]:
    before = (whole - part) // 2
    return [before, whole - part - before]


def power_pool(kernel: int) -> Part:
    """nn.SpatialLPPooling of the second power, its step as wide as its window."""
    steps = [module("nn.Square"), pool(kernel, kernel, kind="nn.SpatialAveragePooling").made]
    made = module("nn.SpatialLPPooling", *steps, module("nn.MulConstant", constant_scalar=kernel**2), module("nn.Sqrt", eps=0))
    return Part(made, lambda x: F.avg_pool2d(x * x, kernel, kernel).mul(kernel**2).sqrt())


def openface(thin: int = 1) -> Part:
    """(N, 3, 96, 96) -> 128 numbers of length one. thin: by how much the widths are divided."""
    make = Parts(1)

    def unit(inputs: int, outputs: int, *more: int) -> list[Part]:
        kernel, stride, pad = more or (1, 1, 0)
        convolution = make.conv(inputs, outputs, kernel, stride, pad, kind="nn.SpatialConvolutionMM", flat=True)
        return [convolution, make.norm(outputs), relu("nn.ReLU", inplace=False)]

    def norm() -> Part:
        fields = {"size": 5, "alpha": 0.0001, "beta": 0.75, "k": 1}
        return plain("nn.SpatialCrossMapLRN", lambda x: F.local_response_norm(x, 5, 1e-4, 0.75, 1.0), **fields)

    def block(inputs: int, kernels: Sequence[tuple[int, int, int]], reduce: Sequence[int], pooled: Part) -> Part:
        return inception(make, inputs // thin, [(k, s, n // thin) for k, s, n in kernels], [n // thin for n in reduce], pooled)

    largest, last = pool(3, 2), 736 // thin
    return seq(
        *unit(3, 64 // thin, 7, 2, 3),
        pool(3, 2, 1),
        norm(),
        *unit(64 // thin, 64 // thin),
        *unit(64 // thin, 192 // thin, 3, 1, 1),
        norm(),
        pool(3, 2, 1),
        block(192, [(3, 1, 128), (5, 1, 32)], [96, 16, 32, 64], largest),
        block(256, [(3, 1, 128), (5, 1, 64)], [96, 32, 64, 64], power_pool(3)),
        block(320, [(3, 2, 256), (5, 2, 64)], [128, 32, 0, 0], largest),
        block(640, [(3, 1, 192), (5, 1, 64)], [96, 32, 128, 256], power_pool(3)),
        block(640, [(3, 2, 256), (5, 2, 128)], [160, 64, 0, 0], largest),
        block(1024, [(3, 1, 384)], [96, 96, 256], power_pool(3)),
        plain("nn.Reshape", lambda x: x.reshape(-1, last, 3, 3), size=sizes(last, 3, 3), nelement=last * 9),
        block(736, [(3, 1, 384)], [96, 96, 256], largest),
        pool(3, 3, kind="nn.SpatialAveragePooling"),
        plain("nn.Reshape", lambda x: x.reshape(-1, last), size=sizes(last), nelement=last),
        plain("nn.View", lambda x: x.reshape(-1, last), size=sizes(last), numElements=last),
        make.linear(last, 128),
        plain("nn.Normalize", lambda x: x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt(), p=2, eps=1e-10),
    )


# -- SharpMask: deepmask/SharpMask.lua on DeepMask's trunk, which is ResNet-50's ---------------------------------------


def sharp_mask(thin: int = 1, batch: int = 2, size: int = 160, units: int = 32) -> Part:
    """(batch, 3, size + 32, size + 32) -> (batch, size^2): the file fixes the batch in its views."""
    make, field = Parts(2), size // 16

    def padded(inputs: int, outputs: int, kernel: int, stride: int) -> Part:
        return seq(mirrored(kernel // 2), make.conv(inputs, outputs, kernel, stride))

    def bottleneck(inputs: int, width: int, stride: int) -> Part:
        norm, out = make.fixed_norm, 4 * width
        main = [make.conv(inputs, width), norm(width), relu(), padded(width, width, 3, stride), norm(width), relu()]
        side = identity() if inputs == out else seq(make.conv(inputs, out, 1, stride), norm(out))
        return seq(both(seq(*main, make.conv(width, out), norm(out)), side), add(inplace=True), relu())

    first = 64 // thin
    layers = []
    for number, count in enumerate((3, 4, 6)):
        width = first * 2**number
        before = 2 * width if number else first
        blocks = [bottleneck(before, width, 2 if number else 1), *(bottleneck(4 * width, width, 1) for _ in range(count - 1))]
        layers.append(seq(*blocks))
    code = 128 // thin
    flat = code * field**2
    trunk = [padded(3, first, 7, 2), make.fixed_norm(first), relu(), pool(3, 2, 1), *layers, cropped(1)]
    trunk += [make.conv(16 * first, code), relu(), view(batch, flat), make.linear(flat, 512)]
    skips = [(8, 16 * first, first, 0), (6, 8 * first, first, 2), (5, 4 * first, first, 4), (3, first, first // 2, 8)]
    refs = [seq(make.linear(512, field**2 * units), view(batch, units, field, field))]
    for number, (_, inputs, hidden, crop) in enumerate(skips):
        width = units // 2**number
        steps = [cropped(crop)] if crop else []
        steps += [mirrored(1), make.conv(inputs, hidden, 3), relu(), mirrored(1), make.conv(hidden, width, 3), relu()]
        across = seq(*steps, mirrored(1), make.conv(width, width // 2, 3))
        up = seq(mirrored(1), make.conv(width, width, 3), relu(), mirrored(1), make.conv(width, width // 2, 3))
        nearest = plain("nn.SpatialUpSamplingNearest", lambda x: F.interpolate(x, scale_factor=2), scale_factor=2)
        end = [mirrored(1), make.conv(width // 2, 1, 3), view(batch, size**2)] if number == 3 else []
        refs.append(seq(parallel(across, up), add(), relu(), nearest, *end))

    def run(x: T) -> T:
        features = []
        for part in trunk:
            x = part.run(x)
            features.append(x)
        x = refs[0].run(x)
        for (place, *_), ref in zip(skips, refs[1:], strict=True):
            x = ref.run([features[place - 1], x])
        return x

    table = {number: ref.made for number, ref in enumerate(refs)}
    fields = {"trunk": seq(*trunk).made, "refs": table, "skpos": [place for place, *_ in skips], "km": units, "ks": units, "fSz": field}
    score = seq(plain("nn.Dropout", lambda x: x, p=0.5, v2=True), make.linear(512, 1))
    return Part(module("nn.SharpMask", scoreBranch=score.made, inps={}, **fields), run)


# -- SpyNet: models/volcon.lua, the net of one level -------------------------------------------------------------------


def spynet(thin: int = 1) -> Part:
    """(N, 8, H, W), two images and a flow, -> (N, 2, H, W)."""
    make, widths = Parts(3), [8, 32 // thin, 64 // thin, 32 // thin, 16 // thin, 2]
    steps: list[Part] = []
    for inputs, outputs in pairwise(widths):
        steps += [make.conv(inputs, outputs, 7, 1, 3, kind="nn.SpatialConvolution"), relu("nn.ReLU", inplace=False)]
    return seq(*steps[:-1])


# -- ENet: train/models/encoder.lua and decoder.lua --------------------------------------------------------------------


class ENet:
    """(N, 3, 8h, 8w) -> (N, classes, 8h, 8w). Its unpooling takes the places of the encoder's pooling."""

    def __init__(self, thin: int = 1, classes: int = 20) -> None:
        self.make = make = Parts(4)
        self.pools: list[tuple[Part, dict[str, T]]] = []
        a, b, c = 16 // min(thin, 2), 64 // thin, 128 // thin
        narrow = make.conv(3, a - 3, 3, 2, 1)
        join = plain("nn.JoinTable", lambda x: torch.cat(x, 1), dimension=2)
        steps = [both(narrow, self._pool()), join, make.norm(a, 1e-3), make.prelu(a)]
        steps += [self._down(a, b, True), *(self._down(b, b) for _ in range(4)), self._down(b, c, True)]
        for _ in range(2):
            for dilated in (2, 4, 8, 16):
                before = {"long": 5} if dilated in (4, 16) else {}
                steps += [self._down(c, c, **before), self._down(c, c, dilated=dilated)]
        steps += [self._up(c, b, 2), self._up(b, b), self._up(b, b), self._up(b, a, 1), self._up(a, a), make.full(a, classes, 2, 2)]
        whole = seq(*steps)
        self.made, self.run = whole.made, whole.run

    def _pool(self) -> Part:
        kept: dict[str, T] = {}

        def run(x: T) -> T:
            out, kept["indices"] = F.max_pool2d(x, 2, 2, return_indices=True)
            kept["source"] = x
            return out

        part = Part(pool(2, 2).made, run)
        self.pools.append((part, kept))
        return part

    def _down(self, inputs: int, outputs: int, smaller: bool = False, *, long: int = 0, dilated: int = 0) -> Part:
        make, width, step = self.make, outputs // 4, 2 if smaller else 1
        steps = [make.conv(inputs, width, step, step, bias=False), make.norm(width, 1e-3), make.prelu(width)]
        if long:
            steps.append(make.conv(width, width, (long, 1), 1, (long // 2, 0), bias=False))
            steps.append(make.conv(width, width, (1, long), 1, (0, long // 2)))
        elif dilated:
            steps.append(make.conv(width, width, 3, 1, dilated, kind="nn.SpatialDilatedConvolution", dilation=dilated))
        else:
            steps.append(make.conv(width, width, 3, 1, 1))
        steps += [make.norm(width, 1e-3), make.prelu(width), make.conv(width, outputs, bias=False), make.norm(outputs, 1e-3)]
        steps.append(plain("nn.SpatialDropout", lambda x: x * 0.9, p=0.1))
        side = [identity(), *([self._pool()] if smaller else [])]
        if inputs != outputs:
            more = outputs - inputs
            fields = {"dim": 1, "pad": more, "nInputDim": 3, "value": 0, "index": 1}
            side.append(plain("nn.Padding", lambda x: F.pad(x, [0, 0, 0, 0, 0, more]), **fields))
        return seq(both(seq(*steps), seq(*side)), add(), make.prelu(outputs))

    def _up(self, inputs: int, outputs: int, reverse: int | None = None) -> Part:
        make, width, larger = self.make, inputs // 4 if reverse is None else outputs // 4, reverse is not None
        middle = make.full(width, width, 3, 2, 1, 1) if larger else make.conv(width, width, 3, 1, 1)
        steps = [make.conv(inputs, width, bias=False), make.norm(width, 1e-3), relu(), middle, make.norm(width, 1e-3), relu()]
        steps += [make.conv(width, outputs, bias=False), make.norm(outputs, 1e-3)]
        side = [identity()]
        if larger:
            side += [make.conv(inputs, outputs, bias=False), make.norm(outputs, 1e-3), self._unpool(*self.pools[reverse or 0])]
        return seq(both(seq(*steps), seq(*side)), add(), relu())

    @staticmethod
    def _unpool(pooling: Part, kept: dict[str, T]) -> Part:
        def run(x: T) -> T:
            return F.max_unpool2d(x, kept["indices"], 2, 2, output_size=kept["source"].shape[2:])

        return plain("nn.SpatialMaxUnpooling", run, pooling=pooling.made)


# -- FAN: face-alignment-training/models/fan.lua -----------------------------------------------------------------------


class Fan:
    """(N, 3, 64h, 64w) -> as many tables of heat maps (N, 68, 16h, 16w) as there are hourglasses."""

    def __init__(self, thin: int = 1, stacks: int = 4) -> None:
        self.make, self.width, self.thin = Parts(5), 256 // thin, thin
        make, width, first = self.make, self.width, 64 // thin
        self.stem = [make.conv(3, first, 7, 2, 3), make.norm(first), relu()]
        self.blocks = [self._residual(first, 2 * first), pool(2, 2), self._residual(2 * first, 2 * first), self._residual(2 * first, width)]
        self.stacks = []
        for number in range(stacks):
            line = [self._hourglass(4), self._residual(width, width), make.conv(width, width), make.norm(width), relu()]
            heat = make.conv(width, 68)
            back = (make.conv(width, width), make.conv(68, width)) if number < stacks - 1 else None
            self.stacks.append((line, heat, back))

    def _unit(self, inputs: int, outputs: int, kernel: int = 3) -> list[Part]:
        return [self.make.norm(inputs), relu(), self.make.conv(inputs, outputs, kernel, 1, kernel // 2, bias=False)]

    def _residual(self, inputs: int, outputs: int) -> Part:
        join = plain("nn.JoinTable", lambda x: torch.cat(x, 1), dimension=2)
        half, quarter = outputs // 2, outputs // 4
        inner = both(identity(), seq(*self._unit(quarter, quarter)))
        block = seq(*self._unit(inputs, half), both(identity(), seq(seq(*self._unit(half, quarter)), inner, join)), join)
        side = identity() if inputs == outputs else seq(*self._unit(inputs, outputs, 1))
        return seq(both(block, side), add(inplace=True))

    def _hourglass(self, depth: int) -> Part:
        def residual() -> Part:
            return self._residual(self.width, self.width)

        nearest = plain("nn.SpatialUpSamplingNearest", lambda x: F.interpolate(x, scale_factor=2), scale_factor=2)
        across = seq(residual())
        down = seq(pool(2, 2), residual(), self._hourglass(depth - 1) if depth > 1 else residual(), residual(), nearest)
        return seq(both(across, down), add())

    @property
    def made(self) -> Object:
        graph = Graph(1)
        node = graph.inputs[0]
        for part in (*self.stem, *self.blocks):
            node = graph.call(part.made, node)
        outputs = []
        for line, heat, back in self.stacks:
            end = node
            for part in line:
                end = graph.call(part.made, end)
            outputs.append(graph.call(heat.made, end))
            if back:
                node = graph.call(add().made, node, graph.call(back[0].made, end), graph.call(back[1].made, outputs[-1]))
        return graph.finish(*outputs)

    def run(self, x: T) -> list[T]:
        for part in (*self.stem, *self.blocks):
            x = part.run(x)
        outputs = []
        for line, heat, back in self.stacks:
            end = x
            for part in line:
                end = part.run(end)
            outputs.append(heat.run(end))
            if back:
                x = x + back[0].run(end) + back[1].run(outputs[-1])
        return outputs


# -- CycleGAN: models/architectures.lua, defineG_resnet_9blocks with instance normalization ----------------------------


class CycleGan:
    """(N, 3, 4h, 4w) -> the same shape, between -1 and 1."""

    def __init__(self, width: int = 64, blocks: int = 9) -> None:
        make = Parts(6)

        def unit(part: Part, outputs: int) -> list[Part]:
            return [part, make.instance_norm(outputs), relu("nn.ReLU")]

        def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, pad: int = 0) -> Part:
            return make.conv(inputs, outputs, kernel, stride, pad, kind="nn.SpatialConvolution")

        wide = 4 * width
        self.steps = [identity(), reflected(3), *unit(conv(3, width, 7), width)]
        self.steps += [*unit(conv(width, 2 * width, 3, 2, 1), 2 * width), *unit(conv(2 * width, wide, 3, 2, 1), wide)]
        for _ in range(blocks):
            main = seq(reflected(1), *unit(conv(wide, wide, 3), wide), reflected(1), conv(wide, wide, 3), make.instance_norm(wide))
            self.steps.append(seq(both(main, identity()), add()))
        self.steps += unit(make.full(wide, 2 * width, 3, 2, 1, 1), 2 * width) + unit(make.full(2 * width, width, 3, 2, 1, 1), width)
        self.steps += [reflected(3), conv(width, 3, 7), plain("nn.Tanh", torch.tanh)]

    @property
    def made(self) -> Object:
        graph = Graph(1)
        node = graph.inputs[0]
        for part in self.steps:
            node = graph.call(part.made, node)
        return graph.finish(node)

    def run(self, x: T) -> T:
        return seq(*self.steps).run(x)


# -- densecap: DenseCapModel.lua's recognition net ---------------------------------------------------------------------


class DenseCap:
    """{features (N, 512, 7, 7), boxes (N, 4), true boxes (P, 4), true words (P, T)} -> scores, boxes, and words for the first P."""

    def __init__(self, channels: int = 512, size: int = 4096, units: int = 512, words: int = 10497) -> None:
        make = Parts(7)
        flat, self.words = channels * 49, words
        drop = plain("nn.Dropout", lambda x: x, p=0.5, v2=True)
        whole = plain("nn.View", lambda x: x.reshape(-1, flat), size=sizes(-1), numInputDims=3)
        self.base = seq(whole, make.linear(flat, size), relu(), drop, make.linear(size, size), relu(), drop)
        self.score, self.box = make.linear(size, 1), make.linear(size, 4)
        self.encoder = seq(
            make.linear(size, units), relu("nn.ReLU"), plain("nn.View", lambda x: x[:, None], size=sizes(1, -1), numInputDims=1)
        )
        self.table, self.lstm = make.draw(words + 2, units), (make.draw(2 * units, 4 * units, fan=2 * units), make.draw(4 * units))
        self.last = make.linear(units, words + 1)
        self.units = units

    def language_model(self) -> Object:
        weight, bias = self.lstm
        units = self.units
        fields = {"input_dim": units, "hidden_dim": units, "remember_states": False, "h0": np.zeros((9, 9), "f4")}
        lstm = module("nn.LSTM", weight=weight, bias=bias, **fields)
        view_in, view_out = module("nn.View", size=sizes(6, -1), numInputDims=3), module("nn.View", size=sizes(2, 3, -1), numInputDims=2)
        rnn = module("nn.Sequential", lstm, view_in, self.last.made, view_out)
        table = module("nn.LookupTable", weight=self.table)
        net = module(
            "nn.Sequential",
            module("nn.ParallelTable", self.encoder.made, table),
            module("nn.JoinTable", dimension=1, nInputDims=2),
            rnn,
        )
        fields = {"vocab_size": self.words, "rnn_size": units, "input_encoding_size": units, "seq_length": 15, "num_layers": 1}
        tokens = {"START_TOKEN": self.words + 1, "END_TOKEN": self.words + 1, "NULL_TOKEN": self.words + 2, "sample_argmax": True}
        inner = {
            "image_encoder": self.encoder.made,
            "lookup_table": table,
            "rnn": rnn,
            "net": net,
            "view_in": view_in,
            "view_out": view_out,
        }
        return Object("nn.LanguageModel", {**fields, **tokens, **inner, "dropout": 0})

    @property
    def made(self) -> Object:
        graph = Graph(4)
        features, boxes, true_boxes, labels = graph.inputs
        codes = graph.call(self.base.made, features)
        kept = graph.call(module("nn.PosSlicer"), codes, labels)
        near = graph.call(module("nn.PosSlicer"), boxes, true_boxes)
        moves = graph.call(self.box.made, kept)
        final = graph.call(module("nn.ApplyBoxTransform"), near, moves)
        words = graph.call(self.language_model(), kept, labels)
        return graph.finish(graph.call(self.score.made, codes), near, moves, final, words, true_boxes, labels)

    def run(self, x: Sequence[T]) -> list[T]:
        features, boxes, true_boxes, labels = x
        codes = self.base.run(features)
        kept, near = codes[: len(labels)], boxes[: len(true_boxes)]
        moves = self.box.run(kept)
        final = torch.cat([moves[:, :2] * near[:, 2:] + near[:, :2], near[:, 2:] * moves[:, 2:].exp()], 1)
        words = torch.cat([torch.full((len(labels), 1), self.words + 1), torch.where(labels == 0, self.words + 2, labels)], 1)
        steps = torch.cat([self.encoder.run(kept), torch.from_numpy(self.table)[words.long() - 1]], 1)
        weight, bias = (torch.from_numpy(a) for a in self.lstm)
        h = c = torch.zeros(len(labels), self.units)
        answers = []
        for step in steps.unbind(1):
            i, f, o, g = (torch.cat([step, h], 1) @ weight + bias).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            answers.append(self.last.run(h))
        return [self.score.run(codes), near, moves, final, torch.stack(answers, 1), true_boxes, labels]
