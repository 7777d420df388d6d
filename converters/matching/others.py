"""Layers as other classes have them: a norm folded into what is in front of it, one layer for several, another layout or padding.

Each is made of layers of the file, with the arrays and the values that it would have. Which of them a class has, the values say.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx_ir as ir
import torch

from converters.matching.layers import Array, Layer
from converters.matching.source import Source

_RESHAPES = frozenset({"Flatten", "Reshape"})
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


def others(source: Source, shapes: Sequence[Sequence[int]], x: torch.Tensor, epsilon: float | None = None) -> Iterator[Layer]:
    """All that can be made of the file's layers for a module that has weights of these shapes and is given x. epsilon: a batch norm's."""
    made = list(_made(source, max((int(shape[0]) for shape in shapes if shape), default=0), x, epsilon))
    yield from made
    for layer in (*source.layers, *made):
        yield from _laid_out(source, layer, x)


def _made(source: Source, rows: int, x: torch.Tensor, epsilon: float | None) -> Iterator[Layer]:
    for layer in source.layers:
        yield from layer.parts
        yield from _padded(source, layer, x)
        yield from _cut(source, layer, rows)
        yield from _first_step(source, layer)
        if not any(value is not None and value.numel() == x.numel() for value in (source.given(layer), source.answer(layer))):
            continue
        behind = source.norms.get(layer.answer)
        if behind is not None and len(layer.answer.uses()) == 1:
            yield from _with_norm(source, layer, behind)
        else:
            yield from _without_norm(source, layer, epsilon)
        yield from _flipped(source, layer)
        yield from _flattened(source, layer)
    yield from _put_together(source, rows)


# -- batch norms -----------------------------------------------------------------------------------------------------------


def folds(source: Source, x: torch.Tensor) -> Iterator[Layer]:
    """Products of x with the batch norm behind them folded in, as classes for inference have them."""
    for layer in source.layers:
        behind = source.norms.get(layer.answer)
        axis = _output_axis(source, layer)
        given = source.given(layer)
        if behind is None or axis is None or len(layer.answer.uses()) != 1 or given is None or not source.equal(x, given):
            continue
        norm = {role: array.astype(np.float64) for role, (_, array) in behind.arrays.items()}
        epsilon = source.nodes[behind.last].attributes.get("epsilon")
        scale = norm.get("weight", np.float64(1)) / np.sqrt(norm["running_var"] + (epsilon.as_float() if epsilon is not None else 1e-5))
        keys, weight = layer.arrays["weight"]
        shape = [-1 if n == axis else 1 for n in range(weight.ndim)]
        bias_keys, bias = layer.arrays.get("bias", ((), np.zeros(1)))
        shifted = (bias.astype(np.float64) - norm["running_mean"]) * scale + norm.get("bias", 0.0)
        all_of = tuple(key for role_keys, _ in behind.arrays.values() for key in role_keys)
        scaling = tuple(key for role in ("weight", "running_var") for key in behind.arrays.get(role, ((),))[0])
        arrays = {"weight": ((*keys, *scaling), weight * scale.reshape(shape)), "bias": ((*bias_keys, *all_of), shifted)}
        yield replace(
            layer,
            last=behind.last,
            answer=behind.answer,
            arrays=arrays,
            pieces=(*layer.pieces, *behind.pieces),
            parts=(),
            note=f"{behind.path} folded in",
        )


def _with_norm(source: Source, layer: Layer, behind: Layer) -> Iterator[Layer]:
    """A product's bias taken out of the mean of the norm behind it, for classes whose product has none."""
    if (plain := _plain(source, layer)) is None:
        return
    note = f"without its bias, which is in the mean of {behind.path}"
    yield replace(layer, arrays={"weight": layer.arrays["weight"]}, parts=(), values=(None, plain), note=note)
    (bias_keys, bias), (mean_keys, mean) = layer.arrays["bias"], behind.arrays["running_mean"]
    arrays = behind.arrays | {"running_mean": ((*mean_keys, *bias_keys), mean.astype(np.float64) - bias)}
    yield replace(behind, arrays=arrays, parts=(), values=(plain, None), note=f"the bias of {layer.path} is in its mean")


def _without_norm(source: Source, layer: Layer, epsilon: float | None) -> Iterator[Layer]:
    """A product in front of a norm that the file has folded in: the norm has the bias, and changes nothing else."""
    if (plain := _plain(source, layer)) is None:
        return
    note = "without its bias, which is in the norm behind it"
    yield replace(layer, arrays={"weight": layer.arrays["weight"]}, parts=(), values=(None, plain), note=note)
    if epsilon is not None:
        keys, bias = layer.arrays["bias"]
        made = {"weight": np.sqrt(1 + epsilon), "running_mean": 0.0, "running_var": 1.0}
        arrays = {role: ((), np.full(bias.shape, value)) for role, value in made.items()} | {"bias": (keys, bias)}
        note = f"the bias of {layer.path}; the file has no norm there"
        yield replace(layer, arrays=arrays, pieces=(), parts=(), values=(plain, source.answer(layer)), note=note)


def _plain(source: Source, layer: Layer) -> torch.Tensor | None:
    """What a product answers without its bias; None for other layers."""
    answer = source.answer(layer)
    if "bias" not in layer.arrays or answer is None or _output_axis(source, layer) is None:
        return None
    numbers = torch.from_numpy(np.asarray(layer.arrays["bias"][1])).to(answer.dtype)
    is_conv = source.nodes[layer.first].op_type == "Conv"
    return answer - (numbers.reshape([-1] + [1] * (answer.ndim - 2)) if is_conv else numbers)


def _output_axis(source: Source, layer: Layer) -> int | None:
    """The axis of a product's weight that counts its outputs; None for other layers, and where groups hide it."""
    kind = source.nodes[layer.first].op_type
    if "weight" not in layer.arrays or not {"weight", "bias"} >= layer.arrays.keys():
        return None
    if kind == "Conv":
        return 0
    return (1 if layer.transposed else 0) if kind in ("Gemm", "MatMul") and layer.arrays["weight"][1].ndim == 2 else None


# -- layouts ---------------------------------------------------------------------------------------------------------------


def _flipped(source: Source, layer: Layer) -> Iterator[Layer]:
    """A first convolution whose class turns RGB and BGR round by itself."""
    given = source.given(layer)
    weight = layer.arrays.get("weight")
    if weight is None or given is None or given.ndim < 3 or given.shape[1] != 3 or weight[1].ndim != given.ndim or weight[1].shape[1] != 3:
        return
    if source.nodes[layer.first].op_type == "Conv":
        arrays = layer.arrays | {"weight": (weight[0], np.ascontiguousarray(weight[1][:, ::-1]))}
        yield replace(layer, arrays=arrays, parts=(), values=(given.flip(1), None), note="the channels of the image the other way round")


def _laid_out(source: Source, layer: Layer, x: torch.Tensor) -> Iterator[Layer]:
    """Channels as the last axis where the file has them as the second, and the other way round; items and steps exchanged."""
    given, answer = source.given(layer), source.answer(layer)
    if given is None or answer is None or answer.ndim != given.ndim or given.numel() != x.numel():
        return
    if given.ndim == 2 and x.ndim == 3 and x.shape[0] * x.shape[1] == len(given) == len(answer):  # steps and items in one axis
        given, answer = (value.reshape(x.shape[1], x.shape[0], -1) for value in (given, answer))
    if given.ndim < 3:
        return
    for a, b in ((1, -1), (-1, 1), *([(0, 1)] if given.ndim == 3 else [])):
        yield replace(layer, parts=(), values=(given.movedim(a, b), answer.movedim(a, b)))


def _flattened(source: Source, layer: Layer) -> Iterator[Layer]:
    """A linear layer behind a flattening, in another order of channels, rows and columns."""
    producer = layer.given.producer()
    weight = layer.arrays.get("weight")
    if producer is None or producer.op_type not in _RESHAPES or producer.inputs[0] is None or weight is None or weight[1].ndim != 2:
        return
    before, given = source.values.get(str(producer.inputs[0].name)), source.given(layer)
    if before is None or given is None or before.ndim < 3 or given.ndim != 2 or given.shape[1] != before[0].numel():
        return
    columns = torch.arange(before[0].numel()).reshape(before.shape[1:])
    for a, b, note in ((0, -1, "channels last"), (-1, 0, "channels first")):
        order = columns.movedim(a, b).reshape(-1)
        array = weight[1][order.numpy()] if layer.transposed else weight[1][:, order.numpy()]
        arrays = layer.arrays | {"weight": (weight[0], array)}
        yield replace(layer, arrays=arrays, parts=(), values=(given[:, order], None), note=f"its columns with {note}")


def _padded(source: Source, layer: Layer, x: torch.Tensor) -> Iterator[Layer]:
    """A convolution whose zeros around the image are added before it, or which adds those itself that the file adds before."""
    node = source.nodes[layer.first]
    given = source.given(layer)
    if node.op_type != "Conv" or given is None:
        return
    pads = node.attributes.get("pads")
    around = list(pads.as_ints()) if pads is not None else []
    if any(around):
        half = len(around) // 2
        widths = [width for n in reversed(range(half)) for width in (around[n], around[n + half])]
        sizes = [size + around[n] + around[n + half] for n, size in enumerate(given.shape[2:])]
        if list(x.shape[2:]) == sizes:
            yield replace(layer, parts=(), values=(torch.nn.functional.pad(given, widths), None))
    producer = layer.given.producer()
    if producer is not None and producer.op_type == "Pad" and producer.inputs[0] is not None:
        before = source.values.get(str(producer.inputs[0].name))
        if before is not None:
            yield replace(layer, parts=(), values=(before, None))


# -- one layer for several, several for one --------------------------------------------------------------------------------


def _cut(source: Source, layer: Layer, rows: int) -> Iterator[Layer]:
    """A layer in pieces: queries, keys and values apart, or the groups of a convolution."""
    given, answer = source.given(layer), source.answer(layer)
    axis = _output_axis(source, layer)
    if axis is None or given is None or answer is None or rows == 0 or not layer.pieces:
        return
    outputs = layer.arrays["weight"][1].shape[axis]
    if outputs <= rows or outputs % rows or outputs // rows > 64:
        return
    node = source.nodes[layer.first]
    group = node.attributes.get("group") if node.op_type == "Conv" else None
    groups = group.as_int() if group is not None else 1
    count = outputs // rows
    if groups not in (1, count):
        return
    channels = 1 if node.op_type == "Conv" else -1
    for number in range(count):
        part = slice(number * rows, (number + 1) * rows)
        arrays = {
            role: (keys, array[:, part] if role == "weight" and axis == 1 else array[part]) for role, (keys, array) in layer.arrays.items()
        }
        seen = given.chunk(count, 1)[number] if groups > 1 else given
        yield replace(
            layer,
            arrays=arrays,
            pieces=tuple((position, Fraction(number, count), Fraction(number + 1, count)) for position, _, _ in layer.pieces),
            parts=(),
            values=(seen, answer.narrow(channels, number * rows, rows)),
            note=f"part {number + 1} of {count}",
        )


def _first_step(source: Source, layer: Layer) -> Iterator[Layer]:
    """A recurrent layer as a cell, which a class calls step by step."""
    given = source.given(layer)
    if source.nodes[layer.first].op_type in _RECURRENT and given is not None and given.ndim == 3:
        yield replace(layer, parts=(), values=(given[0], None), note="step by step")


def _put_together(source: Source, rows: int) -> Iterator[Layer]:
    """Two or three linear layers of one value as one: queries, keys and values, in any order."""
    of_value: dict[ir.Value, list[Layer]] = {}
    for layer in source.layers:
        if _output_axis(source, layer) is not None and layer.arrays["weight"][1].ndim == 2:
            of_value.setdefault(layer.given, []).append(layer)
    for layers in of_value.values():
        for count in (2, 3):
            for chosen in itertools.permutations(layers, count) if len(layers) <= 6 else ():
                if sum(_rows(layer) for layer in chosen) == rows and len({layer.arrays.keys() >= {"bias"} for layer in chosen}) == 1:
                    yield _as_one(source, chosen)


def _rows(layer: Layer) -> int:
    return int(layer.arrays["weight"][1].shape[1 if layer.transposed else 0])


def _as_one(source: Source, chosen: Sequence[Layer]) -> Layer:
    def joined(role: str) -> tuple[tuple[str, ...], Array]:
        keys = tuple(key for layer in chosen for key in layer.arrays[role][0])
        arrays = [layer.arrays[role][1].T if layer.transposed and role == "weight" else layer.arrays[role][1] for layer in chosen]
        return keys, np.concatenate(arrays)

    answers = [answer for layer in chosen if (answer := source.answer(layer)) is not None]
    whole = torch.cat(answers, -1) if len(answers) == len(chosen) else None
    return replace(
        max(chosen, key=lambda layer: layer.last),
        transposed=False,
        arrays={role: joined(role) for role in chosen[0].arrays},
        pieces=tuple(piece for layer in chosen for piece in layer.pieces),
        parts=(),
        values=(None, whole),
        note=f"{', '.join(layer.path for layer in chosen)} in one",
    )
