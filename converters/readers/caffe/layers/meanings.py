"""Types that forks use for different layers: which one it is, by what stands around it in the net."""

from __future__ import annotations

from collections.abc import Sequence

from converters.errors import ConversionError
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.layers.priors import boxes_of
from converters.readers.caffe.prototxt import Net
from converters.readers.caffe.registry import lowers
from converters.schemas import caffe_pb2

_WINDOWS = frozenset({"Convolution", "Pooling", "Deconvolution"})
_ALIGNED = frozenset({"AbsVal", "Concat", "Crop", "LRN", "Slice", "Tile"})
"""Layers that leave each pixel where it is, beside those that Caffe runs in place."""


def tell_meanings(net: Net) -> None:
    """Sets `meaning` of the layers whose type has several: "?" where the net contradicts all that are known."""
    makers = {top: layer for layer in reversed(net.layers) for top in layer.tops if top not in layer.bottoms}
    _priors(net, makers)
    if any(layer.type == "Grid" for layer in net.layers):
        for layer in net.layers:
            if layer.type == "Warp":
                layer.meaning = "LiteFlowNet"
    for layer in net.layers:
        if layer.meaning == "by geometry":
            _crop(layer, makers)
        elif layer.type == "Crop" and len(layer.bottoms) == 2 and not layer.params.HasField("crop_param"):
            _unstated_crop(layer, makers)
    followers = {bottom: layer for layer in reversed(net.layers) for bottom in layer.bottoms}
    for layer in net.layers:
        if layer.type == "ROIAlign" and len(layer.tops) == 1:
            layer.meaning = _roi_align(layer, followers.get(layer.tops[0]))


Place = tuple[tuple[float, float], tuple[float, float]]
"""For rows and for columns a and b: pixel x of a blob lies at a * x + b of the blob that it comes from."""


def _crop(layer: Layer, makers: dict[str, Layer]) -> None:
    """Gives a Crop of the first FCN its offset: how far the two bottoms lie apart in the blob that both come from."""
    if len(layer.bottoms) != 2:
        raise layer.error(f"has {len(layer.bottoms)} bottoms; it takes 2")
    found = _apart(layer, makers)
    if found is None:
        raise layer.error("has no offset, and its bottoms come from no common blob that would tell it", "write a crop_param with an offset")
    for offset, scale, other in found:
        if not _is_crop(offset, scale, other):
            raise layer.error(f"its bottoms lie {offset:g} pixels apart at scales {scale:g} and {other:g}, which no crop mends")
    _cut_at(layer, [int(offset) for offset, *_ in found])


def _unstated_crop(layer: Layer, makers: dict[str, Layer]) -> None:
    """Notes of a Crop without crop_param what the first FCN's fork would make of it, or makes that of it where it is asked for."""
    try:
        found = _apart(layer, makers)
    except ConversionError:
        return
    if found is None or not all(_is_crop(*place) for place in found):
        return
    offsets = tuple(int(offset) for offset, *_ in found)
    if layer.define("CROP_BY_GEOMETRY", 0):
        _cut_at(layer, offsets)
    elif any(offsets):
        layer.apart = offsets


def _is_crop(offset: float, scale: float, other: float) -> bool:
    """Whether a crop lays one bottom upon the other: whole pixels apart, at one scale."""
    return scale == other and offset == int(offset) and offset >= 0


def _cut_at(layer: Layer, offsets: Sequence[int]) -> None:
    layer.params.crop_param.axis = 2
    layer.params.crop_param.offset.extend(offsets)


def _apart(layer: Layer, makers: dict[str, Layer]) -> list[tuple[float, float, float]] | None:
    """For rows and columns how far a Crop's bottoms lie apart, and their scales; None where they come from no common blob."""
    first, second = (_places(bottom, makers) for bottom in layer.bottoms)
    origin = next((blob for blob in first if blob in second), None)
    if origin is None:
        return None
    return [((d - b) / a, a, c) for (a, b), (c, d) in zip(first[origin], second[origin], strict=True)]


def _places(blob: str, makers: dict[str, Layer]) -> dict[str, Place]:
    """Where the pixels of a blob lie in each of those that it comes from, by the first bottom of each layer."""
    place: Place = ((1.0, 0.0), (1.0, 0.0))
    found = {blob: place}
    while (maker := makers.get(blob)) is not None and maker.bottoms:
        if maker.type not in _WINDOWS | _ALIGNED and not lowers.facts(maker.type).in_place:
            break
        blob = maker.bottoms[0]
        steps = _steps(maker)
        a, b = ((scale * s, scale * o + shift) for (s, o), (scale, shift) in zip(place, steps, strict=True))
        place = (a, b)
        if blob in found:
            break
        found[blob] = place
    return found


def _steps(layer: Layer) -> Place:
    """Where a pixel of a layer's top lies in its bottom."""
    if layer.type == "Crop" and len(layer.params.crop_param.offset):
        offset = list(layer.params.crop_param.offset)
        return (1.0, float(offset[0])), (1.0, float(offset[-1]))
    if layer.type not in _WINDOWS:
        return (1.0, 0.0), (1.0, 0.0)
    rows, columns = (_step(layer, axis) for axis in ("h", "w"))
    return rows, columns


def _step(layer: Layer, axis: str) -> tuple[float, float]:
    """Along one axis, of a kernel that is the same along both or stated for each."""
    p: caffe_pb2.PoolingParameter | caffe_pb2.ConvolutionParameter = layer.params.convolution_param
    dilation = next(iter(layer.params.convolution_param.dilation), 1)
    if layer.type == "Pooling":
        p = layer.params.pooling_param
    if layer.params.pooling_param.global_pooling:
        raise layer.error("a Crop without offset can't be placed behind a global pooling")

    def size(name: str, part: str, default: int) -> int:
        if p.HasField(f"{part}_{axis}"):
            return int(getattr(p, f"{part}_{axis}"))
        given = getattr(p, name)
        values = [given] if isinstance(given, int) else list(given)
        return int(values[0 if axis == "h" else -1]) if values else default

    kernel, stride, pad = size("kernel_size", "kernel", 1), size("stride", "stride", 1), size("pad", "pad", 0)
    shift = dilation * (kernel - 1) / 2 - pad
    return (1 / stride, -shift / stride) if layer.type == "Deconvolution" else (float(stride), shift)


def _roi_align(layer: Layer, follower: Layer | None) -> str:
    """cascade-rcnn's where a pad_ratio or the averages of four corners behind it say so."""
    if layer.params.roi_align_param.HasField("pad_ratio"):
        return "cascade-rcnn"
    if follower is not None and follower.type == "Pooling":
        p = follower.params.pooling_param
        if (p.pool, p.kernel_size, p.stride, p.pad) == (p.AVE, 2, 1, 0):
            return "cascade-rcnn"
    return ""


def _priors(net: Net, makers: dict[str, Layer]) -> None:
    """Whose prior boxes a net has: the number of offsets tells."""
    priors = [layer for layer in net.layers if layer.type == "PriorBox" and len(layer.tops) == 1]
    outputs = [layer for layer in net.layers if layer.type == "DetectionOutput" and len(layer.bottoms) >= 3]
    joins = [layer for layer in net.layers if layer.type == "Concat" and any(makers.get(b) in priors for b in layer.bottoms)]
    ordered = [makers[b] for b in joins[0].bottoms if makers.get(b) in priors] if joins else priors
    if not ordered:
        return
    try:
        counts = {meaning: [4 * len(boxes_of(layer, meaning)) for layer in ordered] for meaning in ("", "FaceBoxes", "TextBoxes")}
    except ConversionError:
        return  # the lowering of the layer says what is wrong with it
    scale = 1
    if outputs:
        offsets = _channels(outputs[0].bottoms[0], makers)
        p = outputs[0].params.detection_output_param
        scale = 1 if p.share_location else p.num_classes
        found = [] if offsets is None else [offsets]
    else:
        found = _candidates(net, makers, len(ordered), joins)
    meaning = _meaning(counts, found, scale)
    for layer in (*priors, *outputs):
        layer.meaning = meaning


def _meaning(counts: dict[str, list[int]], found: Sequence[list[int]], scale: int) -> str:
    """The fork whose prior boxes have as many offsets as one of the lists of channels; SSD's where there is no list."""
    fitting = [meaning for meaning, wanted in counts.items() if [scale * n for n in wanted] in found]
    if fitting or not found:
        return fitting[0] if fitting else ""
    return "?"


def _candidates(net: Net, makers: dict[str, Layer], count: int, joins: Sequence[Layer]) -> list[list[int]]:
    """Where no DetectionOutput says which they are, the channels of what may be the offsets: that is called loc, or goes no further."""
    used = {bottom for layer in net.layers for bottom in layer.bottoms}
    lists: list[tuple[str, list[int]]] = []
    for layer in net.layers:
        if layer.type != "Concat" or layer in joins or len(layer.bottoms) != count or len(layer.tops) != 1:
            continue
        channels = _channels(layer.tops[0], makers)
        if channels is not None:
            lists.append((layer.tops[0], channels))
    if not joins:  # the maps' offsets stay apart, as the prior boxes do
        ends = [layer.tops[0] for layer in net.layers if layer.type != "Concat" and len(layer.tops) == 1 and layer.tops[0] not in used]
        apart = [_channels(top, makers) for top in ends if "loc" in top.lower()]
        if len(apart) == count and None not in apart:
            lists.append(("loc", [n for channels in apart if channels is not None for n in channels]))
    named = [channels for top, channels in lists if "loc" in top.lower()]
    return named or [channels for top, channels in lists if top not in used]


def _channels(blob: str, makers: dict[str, Layer]) -> list[int] | None:
    """The channels of each convolution whose answer comes to a blob, joined or alone; None where another layer stands between."""
    maker = makers.get(blob)
    if maker is None:
        return None
    if maker.type == "Concat" and maker.params.concat_param.axis in (1, -1):
        parts = [_channels(bottom, makers) for bottom in maker.bottoms]
        return [n for part in parts if part is not None for n in part] if None not in parts else None
    if maker.type in ("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution"):
        return [maker.params.convolution_param.num_output]
    if len(maker.bottoms) == 1 and lowers.facts(maker.type).keeps_count:
        return _channels(maker.bottoms[0], makers)
    return None
