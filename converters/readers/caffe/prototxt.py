"""Net definitions: a .prototxt of any age -> the layers that a net has in phase TEST.

Sources: caffe/src/caffe/util/upgrade_proto.cpp, caffe/src/caffe/net.cpp (FilterNet, StateMeetsRule).
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from converters.errors import FormatError, about, printable
from converters.files import StrPath, map_file
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.textformat import Document, Field, Unknown, fill, parse
from converters.readers.caffe.upgrade import upgrade_v0_padding, upgrade_v1
from converters.schemas import caffe_pb2

SIZE_LIMIT = 8 << 20
"""The longest prototxt known is below 2 MB; a text of more than this isn't one."""

# Fields of a solver's file, none of which a net's has.
_SOLVER = frozenset(
    "net train_net test_net net_param train_net_param base_lr lr_policy max_iter snapshot_prefix solver_mode test_iter".split()
)

# Fields that say nothing about what a net computes in phase TEST: choice of engine, memory, precision of training, logging.
_HARMLESS = frozenset(
    "engine mem_param optimize_mem debug forward_type backward_type forward_math backward_math cudnn_math_override "
    "default_forward_type default_backward_type default_forward_math default_backward_math default_conv_algos_override "
    "default_cudnn_math_override global_grad_scale global_grad_scale_adaptive reduce_buckets eltwise_mem_sharing "
    "conv_algos_override cudnn_convolution_algo_seeker compile_net_state multinode mn_activation_param mn_grad_compress_param "
    "quantization_param per_fla_fuse shared_memory profile bn_stats_batch_size conv_algorithm".split()
)
# Messages whose unknown fields are about training.
_TRAINING = ("param.", "loss_param.", "transform_param.", "detection_output_param.save_output_param.")


@dataclass
class Net:
    """A net's layers in file order; header inputs have become a first Input layer, as Caffe makes them.

    excluded: what phase TEST leaves out.
    """

    file: str
    name: str
    layers: list[Layer]
    excluded: list[Layer]


_FILLER = re.compile(r"(?:\A|_|\.)filler(?:\.|\Z)")
"""Of parameters that no weights file has, and the fork's own `filler` of a Parameter."""

_TEMPLATE = re.compile(r"\$([A-Za-z_]\w*)\$?")
"""A place that a program fills in before Caffe reads the file."""


def read_net(path: StrPath, define: Mapping[str, str] = MappingProxyType({})) -> Net:
    """The net of a .prototxt: every form upgraded to the newest, layers of other phases left out.

    define: what stands for `$NAME$` in a template, and numbers that layers take from elsewhere.
    Raises FormatError for a file that isn't a net's prototxt, with line and column where the text is wrong.
    """
    with about(path):
        text = _filled_in(_text(map_file(path)), define)
        net = _read_document(Document(os.fspath(path), text))
        for layer in net.layers:
            layer.defines = define
        return net


def _filled_in(text: str, define: Mapping[str, str]) -> str:
    """A template's text with numbers for its names. Raises FormatError where names are left."""
    plain = _COMMENTS.sub("", text)
    names = list(dict.fromkeys(_TEMPLATE.findall(plain)))
    missing = [name for name in names if name not in define]
    if missing:
        words = " ".join(f"--define {printable(name)}=512" for name in missing[:4])
        shown = ", ".join(f"${printable(name)}$" for name in missing[:8])
        raise FormatError(f"this is a template, no prototxt yet: it holds {shown}", hint=f"say what they are: {words}")
    return _TEMPLATE.sub(lambda found: define.get(found[1], found[0]), text) if names else text


_COMMENTS = re.compile(r"#[^\n]*|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
"""Comments, and strings, in which a dollar is a dollar."""


def _read_document(document: Document) -> Net:
    fields = parse(document)
    _check_is_net(document, fields)
    head = caffe_pb2.NetParameter()
    unknown: list[Unknown] = []
    fill(head, (f for f in fields if f.name not in ("layer", "layers")), document, unknown)
    for stray in unknown:
        if stray.field.name not in _HARMLESS:
            raise document.error(stray.field.offset, f"{printable(stray.path)}: {stray.reason} in a net")
    layers = _layers(document, [f for f in fields if f.name in ("layer", "layers")])
    if head.input:
        layers.insert(0, _header_input(document, head, fields))
    # Net::Net sets phase and level, whatever the file says; stages are the file's.
    included = [_is_included(layer, caffe_pb2.TEST, 0, list(head.state.stage)) for layer in layers]
    chosen = list(itertools.compress(layers, included))
    if not chosen:
        raise FormatError("the net has no layers in phase TEST")
    return Net(document.file, head.name, chosen, [layer for layer, kept in zip(layers, included, strict=True) if not kept])


def _check_is_net(document: Document, fields: Sequence[Field]) -> None:
    """Raises FormatError for a solver's prototxt, another message, or one that mixes two ages."""
    names = {field.name for field in fields}
    if not names & {"layer", "layers"}:
        if names & _SOLVER:
            net = next((f.value for f in fields if f.name in ("net", "train_net") and f.kind == "string"), "")
            hint = f" (it names '{printable(net)}')" if net else ""
            raise FormatError(f"this is a solver's prototxt; give the prototxt of the net{hint}")
        if "mean" in names or "data" in names:
            raise FormatError("this isn't a net: it has no layers")
        raise FormatError("the prototxt has no layers")
    if {"layer", "layers"} <= names:
        first = next(f for f in fields if f.name == "layers")
        raise document.error(first.offset, "'layer' and 'layers' in one file; Caffe refuses the mixture: use 'layer' throughout")


def check_fields(layer: Layer) -> None:
    """Raises ConversionError for a field that a built-in lowering doesn't know and that could change what the layer computes."""
    for stray in layer.unknown:
        name = stray.field.name
        if name in _HARMLESS or stray.path.startswith(_TRAINING) or _FILLER.search(stray.path):
            continue
        if name == "blobs":
            raise layer.error("its weights stand in the prototxt as text, which isn't read; save them as a .caffemodel")
        raise layer.error(f"{printable(stray.path)}: {stray.reason}; correct the spelling, or register a lowering that knows it")


def _text(view: memoryview) -> str:
    head = bytes(view[:4096])
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", head):
        raise FormatError("binary data where a text prototxt is expected")
    else:
        encoding = "utf-8-sig"
    if len(view) > SIZE_LIMIT:
        raise FormatError(f"{len(view)} bytes are too long for a prototxt")
    try:
        # Comments are in any encoding; strings that aren't UTF-8 are found by the parser.
        return bytes(view).decode(encoding, "surrogateescape" if encoding == "utf-8-sig" else "strict")
    except UnicodeDecodeError as problem:
        raise FormatError(f"byte {problem.start} isn't text ({encoding}); a prototxt is UTF-8") from problem


def _layers(document: Document, fields: Sequence[Field]) -> list[Layer]:
    for field in fields:
        if field.kind != "message":
            raise document.error(field.offset, f"{field.name} is a message: expected '{{'")
    if fields and fields[0].name == "layers":
        return _old_layers(document, fields)
    layers = []
    for field in fields:
        message = caffe_pb2.LayerParameter()
        unknown: list[Unknown] = []
        fill(message, field.value, document, unknown)
        layers.append(_layer(document, field, message, unknown))
    return layers


def _old_layers(document: Document, fields: Sequence[Field]) -> list[Layer]:
    read = []
    for field in fields:
        message = caffe_pb2.V1LayerParameter()
        unknown: list[Unknown] = []
        fill(message, field.value, document, unknown)
        read.append((field, message, unknown))
    if any(message.HasField("layer") for _, message, _ in read):
        v0 = [message for _, message, _ in read]
        kept = upgrade_v0_padding(v0, lambda index, reason: document.error(read[index][0].offset, reason))
        read = [read[index] for index in kept]
    layers = []
    for field, message, unknown in read:
        upgraded = upgrade_v1(message, unknown)
        forks = [stray for stray in unknown if stray.path in caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name]
        for stray in forks:  # messages that forks gave to V1 layers too
            unknown.remove(stray)
            fill(upgraded, [stray.field], document, unknown)
        layers.append(_layer(document, field, upgraded, unknown))
        if upgraded.type == "Crop" and not upgraded.HasField("crop_param"):
            layers[-1].meaning = "by geometry"
    return layers


def _layer(document: Document, field: Field, message: caffe_pb2.LayerParameter, unknown: list[Unknown]) -> Layer:
    for stray in unknown:  # said here, where the line of the field itself is known
        stray.reason += f" (line {document.line(stray.field.offset)})"
    line = document.line(field.offset)
    if message.type == "Python" and message.HasField("python_param"):  # which one it is
        message.type = f"Python:{message.python_param.module}.{message.python_param.layer}"
    return Layer(document.file, line, message.name, message.type, list(message.bottom), list(message.top), message, unknown)


def _header_input(document: Document, head: caffe_pb2.NetParameter, fields: Sequence[Field]) -> Layer:
    """`input:` with `input_dim:` or `input_shape` as the Input layer that UpgradeNetInput makes of it."""
    offset = next(f.offset for f in fields if f.name == "input")
    shapes = [list(shape.dim) for shape in head.input_shape]
    dims = list(head.input_dim)
    count = len(head.input)
    if not shapes and dims:
        if len(dims) != 4 * count:
            raise document.error(offset, f"{len(dims)} input_dim for {count} inputs; Caffe takes 4 for each")
        shapes = [dims[4 * i : 4 * i + 4] for i in range(count)]
    if len(shapes) not in (0, 1, count):
        raise document.error(offset, f"{len(shapes)} input shapes for {count} inputs; give one for each, or one for all")
    message = caffe_pb2.LayerParameter(name="input", type="Input", top=list(head.input))
    for shape in shapes:
        message.input_param.shape.add().dim.extend(shape)
    return Layer(document.file, document.line(offset), "input", "Input", [], list(head.input), message)


def _is_included(layer: Layer, phase: int, level: int, stages: Sequence[str]) -> bool:
    params = layer.params
    for stray in layer.unknown:
        if stray.path.startswith(("include.", "exclude.")):
            raise layer.error(f"{printable(stray.path)}: {stray.reason}")
    if params.include and params.exclude:
        raise layer.error("both 'include' and 'exclude'; Caffe allows one of them")
    included = not params.include
    if any(_meets(rule, phase, level, stages) for rule in params.exclude):
        included = False
    if any(_meets(rule, phase, level, stages) for rule in params.include):
        included = True
    return included


def _meets(rule: caffe_pb2.NetStateRule, phase: int, level: int, stages: Sequence[str]) -> bool:
    return (
        (not rule.HasField("phase") or rule.phase == phase)
        and (not rule.HasField("min_level") or level >= rule.min_level)
        and (not rule.HasField("max_level") or level <= rule.max_level)
        and all(stage in stages for stage in rule.stage)
        and not any(stage in stages for stage in rule.not_stage)
    )
