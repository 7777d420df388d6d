"""Source of operators that only move elements about: shapes, joining, cutting, padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.writers.source.code import Size, number
from converters.writers.source.node import Node, Written, writes


def text_of(part: Any) -> str:
    return part.text if isinstance(part, Size) else str(int(part))


def listed(parts: Any) -> str:
    """`2, x.shape[1], -1`."""
    return ", ".join(text_of(p) for p in parts)


@writes("Shape", unsigned="moves")
def shape(n: Node) -> Written:
    """x.shape, as Python numbers."""
    rank = n.rank()
    if rank is None:
        return f"torch.tensor({n[0]}.shape, device={n.device})"
    start, end = n.attr("start", 0), n.attr("end", rank)
    names = {0: "batch", 1: "channels", 2: "height", 3: "width"} if rank == 4 else {0: "batch", 1: "length"}
    result = np.empty(len(range(rank)[start:end]), object)
    x = n[0]
    for position, axis in enumerate(range(rank)[start:end]):
        result[position] = n.size(f"{x}.shape[{axis}]", names.get(axis, "size"))
    return result if result.size else np.zeros(0, np.int64)


@writes("Size", unsigned="moves")
def size(n: Node) -> Written:
    """x.numel(), as a Python number."""
    result = np.empty((), object)
    result[()] = n.size(f"{n[0]}.numel()")
    return result


@writes("Reshape", unsigned="moves")
def reshape(n: Node) -> str:
    """torch.flatten, torch.unflatten or x.reshape; axes that stay are copied from x, so that no size changes them."""
    sizes = n.sizes(1) if n.has(1) else list(n.attr("shape"))
    zero_copies = not n.attr("allowzero", 0)
    if sizes is None:
        if not zero_copies:
            return f"{n[0]}.reshape({n.function('integers')}({n[1]}))"
        return f"{n.function('reshape')}({n[0]}, {n.function('integers')}({n[1]}))"
    if zero_copies:
        sizes = _kept(n, sizes)
        kept = next((i for i, s in enumerate(sizes) if isinstance(s, Size) or s != 0), len(sizes))
        rank, numbers = n.rank(), sizes[kept:]
        if rank is not None and kept and numbers == [-1] and rank >= kept:
            return f"torch.flatten({n[0]}, {kept})" if rank > kept else f"{n[0]}.unsqueeze(-1)"
        if rank == kept + 1 and len(numbers) > 1 and all(not isinstance(s, Size) and s > 0 for s in numbers):
            return f"torch.unflatten({n[0]}, {kept}, ({listed(numbers)}))"
        sizes = [Size(f"{n[0]}.shape[{i}]") if not isinstance(s, Size) and s == 0 else s for i, s in enumerate(sizes)]
    return f"{n[0]}.reshape({listed(sizes) or '()'})"


def _kept(n: Node, sizes: list[Any]) -> list[Any]:
    """With 0 (copied) for -1 (whatever is left) where the graph says that this axis stays what it is: `N` stays `N`."""
    before, after = n.symbols(), n.output_symbols()
    if before is None or after is None or len(after) != len(sizes):
        return sizes
    return [
        0 if not isinstance(s, Size) and s == -1 and i < len(before) and before[i] == after[i] != "" else s for i, s in enumerate(sizes)
    ]


@writes("Flatten", unsigned="moves")
def flatten(n: Node) -> str:
    """torch.flatten into two axes."""
    axis, rank = n.attr("axis", 1), n.rank()
    if rank is not None and axis < 0:
        axis += rank
    if axis == 0:
        return f"{n[0]}.reshape(1, -1)"
    if rank is None:
        return f"{n[0]}.reshape(math.prod({n[0]}.shape[:{axis}]), math.prod({n[0]}.shape[{axis}:]))"
    tail = f"torch.flatten({n[0]}, {axis})" if rank > axis + 1 else n[0] if rank > axis else f"{n[0]}.unsqueeze(-1)"
    return tail if axis == 1 else f"torch.flatten({tail}, 0, {axis - 1})"


@writes("Transpose", unsigned="moves")
def transpose(n: Node) -> str:
    """x.permute."""
    order = n.attr("perm") or tuple(reversed(range(n.known_rank())))
    return f"{n[0]}.permute({listed(order) or '()'})"


@writes("Concat", unsigned="wraps")
def concat(n: Node) -> str:
    """torch.cat."""
    if len(n) == 1:
        return n[0]
    return f"torch.cat([{', '.join(n[i] for i in range(len(n)))}], {n.attr('axis', 1)})"


@writes("Split", unsigned="wraps")
def split(n: Node) -> str | list[str]:
    """x.split; without sizes into equal parts, the last one smaller."""
    axis = n.attr("axis", 0)
    sizes = n.sizes(1) if n.has(1) else n.attr("split")
    if sizes is not None:
        parts = f"{n[0]}.split([{listed(sizes)}], {axis})"
    elif n.has(1):
        parts = f"{n[0]}.split({n.function('integers')}({n[1]}), {axis})"
    else:
        count = n.attr("num_outputs", n.outputs)
        shape = n.shape(0)
        length = None if shape is None else shape[axis]
        if length is None:
            parts = f"{n[0]}.split(-(-{n[0]}.shape[{axis}] // {count}), {axis})"
        else:
            each = -(-length // count)
            sizes = [max(0, min(each, length - each * i)) for i in range(count)]
            parts = f"{n[0]}.split([{listed(sizes)}], {axis})"
    return [f"{parts}[0]"] if n.outputs == 1 else parts


@writes("Slice", unsigned="wraps")
def slices(n: Node) -> str:
    """`x[:, 1:3]`; flip for negative steps."""
    rank = n.rank()
    starts = n.sizes(1) if n.has(1) else list(n.attr("starts", ()))
    ends = n.sizes(2) if n.has(2) else list(n.attr("ends", ()))
    steps = n.sizes(4) if n.has(4) else None
    axes = None if n.has(3) and n.static(3) is None else n.axes(3)
    if starts is None or (n.has(3) and axes is None) or ends is None or (n.has(4) and steps is None) or rank is None:
        where = f"{n.function('integers')}({n[3]})" if n.has(3) and axes is None else str(axes)
        return f"{n.function('slices')}({n[0]}, {n.size_list(1)}, {n.size_list(2)}, {where}, {n.size_list(4) if n.has(4) else None})"
    axes = list(range(len(starts))) if axes is None else [a % rank for a in axes]
    steps = [1] * len(starts) if steps is None else steps
    index = [":"] * rank
    if any(isinstance(s, Size) for s in steps) or any(s < 0 for s in steps):
        return f"{n.function('slices')}({n[0]}, [{listed(starts)}], [{listed(ends)}], {axes}, [{listed(steps)}])"
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        first = "" if not isinstance(start, Size) and start == 0 else text_of(start)
        last = "" if not isinstance(end, Size) and end >= 2**31 - 1 else text_of(end)
        index[axis] = f"{first}:{last}" + (f":{step}" if step != 1 else "")
    while len(index) > 1 and index[-1] == ":":
        index.pop()
    return f"{n[0]}[{', '.join(index)}]" if index else n[0]


@writes("Squeeze", unsigned="moves")
def squeeze(n: Node) -> str:
    """x.squeeze; x.reshape where another batch or an open axis may not be 1, which torch's squeeze would leave as it is."""
    if n.has(1) and n.static(1) is None:
        return f"{n[0]}.squeeze({n.function('integers')}({n[1]}))"
    axes, shape = n.axes(), n.shape(0)
    if axes is None:
        return f"{n[0]}.squeeze()"
    where = None if shape is None else sorted(axis % len(shape) for axis in axes)
    if shape is not None and where and (0 in where or any(shape[axis] != 1 for axis in where)):
        if where == list(range(len(where))):
            return f"{n[0]}.reshape({n[0]}.shape[{len(where)}:])"
        kept = [f"{n[0]}.shape[{axis}]" for axis in range(len(shape)) if axis not in where]
        return f"{n[0]}.reshape({', '.join(kept)})"
    return f"{n[0]}.squeeze({axes[0] if len(axes) == 1 else tuple(axes)})"


@writes("Unsqueeze", unsigned="moves")
def unsqueeze(n: Node) -> str:
    """x.unsqueeze, axis by axis."""
    if n.has(1) and n.static(1) is None:
        return f"{n.function('unsqueeze')}({n[0]}, {n.function('integers')}({n[1]}))"
    axes = n.axes() or []
    if any(a < 0 for a in axes) and n.rank() is None:
        return f"{n.function('unsqueeze')}({n[0]}, {axes})"
    if any(a < 0 for a in axes):
        rank = n.known_rank() + len(axes)
        axes = [a % rank for a in axes]
    return n[0] + "".join(f".unsqueeze({axis})" for axis in sorted(axes))


@writes("Expand", unsigned="moves")
def expand(n: Node) -> str:
    """x broadcast to a shape, in both directions."""
    sizes = n.sizes(1)
    own = n.shape(0)
    if sizes is not None and own is not None and len(sizes) >= len(own):
        padded = [1] * (len(sizes) - len(own)) + own
        keep = [-1 if not isinstance(s, Size) and s == 1 and p != 1 else s for s, p in zip(sizes, padded, strict=True)]
        if not any(isinstance(k, Size) for k in keep) and all(k == -1 or p in (1, k) for p, k in zip(padded, keep, strict=True)):
            return f"{n[0]}.expand({listed(keep) or '()'})"
    return f"{n.function('expand')}({n[0]}, {n.size_list(1)})"


@writes("Tile", unsigned="wraps")
def tile(n: Node) -> str:
    """x.tile."""
    sizes = n.sizes(1)
    if sizes is None:
        return f"{n[0]}.tile({n.function('integers')}({n[1]}))"
    return f"{n[0]}.tile({listed(sizes) or '()'})"


@writes("Pad", unsigned="fits")
def pad(n: Node) -> str:
    """F.pad; axes that it has no mode for one by one."""
    mode = n.attr("mode", "constant")
    pads = n.sizes(1) if n.has(1) else list(n.attr("pads", n.attr("paddings", ())))
    value = n.scalar(2) if n.has(2) else number(np.float32(n.attr("value", 0.0)))
    given = "0.0" if value in ("0.0", "False", "0") else value  # TorchScript makes no float of an int
    value = "0" if value in ("0.0", "False") else value
    rank = n.rank()
    if n.has(3) and n.static(3) is None:
        return f"{n.function('pad')}({n[0]}, {n.size_list(1)}, {mode!r}, {given}, {n.function('integers')}({n[3]}))"
    axes = n.axes(3)
    if pads is None or rank is None or any(isinstance(p, Size) for p in pads):
        return f"{n.function('pad')}({n[0]}, {n.size_list(1)}, {mode!r}, {given}, {axes})"
    where = list(range(rank)) if axes is None else [a % rank for a in axes]
    begins, ends = [0] * rank, [0] * rank
    for position, axis in enumerate(where):
        begins[axis], ends[axis] = pads[position], pads[position + len(where)]
    if mode == "constant":
        flat = [text for b, e in zip(reversed(begins), reversed(ends), strict=True) for text in (b, e)]
        while len(flat) > 2 and flat[-1] == flat[-2] == 0:
            flat = flat[:-2]
        if not any(flat):
            return n[0]
        value = "" if value == "0" else f", value={value}"
        return f"F.pad({n[0]}, ({listed(flat)}){value})"
    spatial = rank - 2
    if rank in (3, 4, 5) and not any(begins[:2] + ends[:2]) and mode in ("reflect", "edge") and n.is_float() and min(begins + ends) >= 0:
        flat = [p for axis in reversed(range(2, 2 + spatial)) for p in (begins[axis], ends[axis])]
        return f'F.pad({n[0]}, ({listed(flat)}), mode="{"replicate" if mode == "edge" else mode}")'
    return f"{n.function('pad')}({n[0]}, {begins + ends}, {mode!r}, {value})"


@writes("DepthToSpace")
def depth_to_space(n: Node) -> str:
    """F.pixel_shuffle (mode CRD), or with the block before the channels (DCR)."""
    block = n.attr("blocksize")
    if n.attr("mode", "DCR") == "CRD":
        return f"F.pixel_shuffle({n[0]}, {block})"
    return f"{n.function('depth_to_space')}({n[0]}, {block})"


@writes("SpaceToDepth")
def space_to_depth(n: Node) -> str:
    """Blocks of pixels become channels, the block before the channels."""
    if n.attr("mode", "DCR") == "CRD":
        return f"F.pixel_unshuffle({n[0]}, {n.attr('blocksize')})"
    return f"{n.function('space_to_depth')}({n[0]}, {n.attr('blocksize')})"
