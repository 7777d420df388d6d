"""The text format, against protobuf's own reader; and its errors, which protobuf words differently from release to release."""

import math

import pytest
from converters.schemas import caffe_pb2
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.errors import FormatError
from converters.readers.caffe.textformat import Document, Unknown, fill, parse


def read(text: str) -> tuple[caffe_pb2.NetParameter, list[Unknown]]:
    document = Document("net.prototxt", text)
    net, unknown = caffe_pb2.NetParameter(), []
    fill(net, parse(document), document, unknown)
    return net, unknown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name: 'a'",
        'name: "a" "b"  # and so on\n  \'c\'',
        r'name: "tab\t quote\" \'\\ \101\x42\u00e9 \303\251"',
        "name: 'ünï'; input: 'a', input: 'b';",
        "input: ['a', 'b'] input_dim: [1, 2,\n3, 4]",
        "input_dim: []",
        "layer { name: 'a' } layer < name: 'b' > layer: { name: 'c' } layer [{ name: 'd' }, < name: 'e' >]",
        "layer { convolution_param { pad: 0x10 kernel_size: 017 num_output: 3 bias_term: f } }",
        "layer { power_param { power: -1.5e-3 scale: 2f shift: -inf } }",
        "layer { power_param { power: nan scale: .5 shift: 3. } }",
        "layer { pooling_param { pool: AVE round_mode: 1 ceil_mode: false } }",
        "force_backward: true debug_info: 0",
        "layers { type: CONVOLUTION blobs_lr: 1 blobs_lr: 2 layer { name: 'v0' } }",
        "layer { input_param { shape { dim: 1 dim: -1 dim: 9223372036854775807 } } }",
    ],
)
def test_agrees_with_protobuf(text: str) -> None:
    wanted = text_format.Parse(text, caffe_pb2.NetParameter())
    got, unknown = read(text)
    assert not unknown
    assert str(got) == str(wanted)


PARAMS = st.builds(
    caffe_pb2.PowerParameter,
    power=st.floats(width=32, allow_nan=False),
    scale=st.floats(width=32, allow_nan=False),
)
LAYERS = st.builds(
    caffe_pb2.LayerParameter,
    name=st.text(st.characters(exclude_categories=["Cs"])),
    type=st.text(st.characters(exclude_categories=["Cs"])),
    bottom=st.lists(st.text(max_size=5)),
    loss_weight=st.lists(st.floats(width=32, allow_nan=False)),
    phase=st.sampled_from([caffe_pb2.TRAIN, caffe_pb2.TEST]),
    power_param=PARAMS,
)


@settings(max_examples=150, deadline=None)
@given(
    st.builds(caffe_pb2.NetParameter, name=st.text(), input_dim=st.lists(st.integers(-(2**31), 2**31 - 1)), layer=st.lists(LAYERS)),
    st.booleans(),
)
def test_reads_what_protobuf_writes(net: caffe_pb2.NetParameter, one_line: bool) -> None:
    got, unknown = read(text_format.MessageToString(net, as_one_line=one_line, as_utf8=not one_line))
    assert got == net and not unknown


@settings(max_examples=200, deadline=None)
@given(st.text("{}<>[]:,;'\"\\#\n -+.0123456789abcdefxlayernm"))
def test_never_crashes(text: str) -> None:
    try:
        read(text)
    except FormatError as problem:
        assert str(problem).startswith("net.prototxt:")


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("layer {\n name: 'a'\n", "3:1", "a '}' is missing for line 1"),
        ("layer { name: 'a' >", "1:19", "expected a field name or '}', found '>'"),
        ("}", "1:1", "expected a field name, found '}'"),
        ("name 'a'", "1:6", "expected ':' or '{' after name"),
        ("name:", "1:6", "expected a value for name, found the end"),
        ("name: 'a", "1:7", "isn't closed"),
        ("name: a", "1:1", "'a' is not a string in quotes"),
        ("layer: 5", "1:1", "layer is a message"),
        ("name { }", "1:1", "a message is not a string"),
        ("name: 'a'\nname: 'b'", "2:1", "name is given twice (first on line 1)"),
        ("input_dim: [1, 2", "1:17", "expected ',' or ']'"),
        ("input_dim: 3000000000", "1:1", "not a 32-bit integer"),
        ("input_dim: 1.5", "1:1", "not a 32-bit integer"),
        ("layer { power_param { power: 0x" + "f" * 400 + " } }", "1:23", "is not a number"),
        ("input_dim: " + "9" * 5000, "1:1", "not a 32-bit integer"),
        ("force_backward: maybe", "1:1", "not true or false"),
        ("layer { convolution_param { pad: -1 } }", "1:29", "not an unsigned 32-bit integer"),
        ("name: '\\777\\377'", "1:7", "isn't UTF-8"),
        ("name: 5x", "1:7", "unexpected character '5'"),
        ("layer {" * 101, "1:707", "nested more than 100 deep"),
        ("a: @", "1:4", "unexpected character '@'"),
    ],
)
def test_errors_say_where(text: str, place: str, words: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(text)
    assert str(caught.value).startswith(f"net.prototxt:{place}: ")
    assert words in str(caught.value)


def test_unknown_fields_are_kept() -> None:
    net, unknown = read("layer { name: 'a' my_param { alpha: 2 } pooling_param { pool: MEDIAN } }")
    assert net.layer[0].name == "a"
    assert [(u.path, u.reason) for u in unknown] == [
        ("layer.my_param", "no such field"),
        ("layer.pooling_param.pool", "'MEDIAN' is none of MAX, AVE, STOCHASTIC"),
    ]


def test_a_sign_may_stand_apart() -> None:
    """protobuf's C++ reader, which is Caffe's, allows it; the Python one doesn't."""
    assert read("input_dim: - 2")[0].input_dim == [-2]


def test_numbers_are_rounded_once() -> None:
    net, _ = read("layer { power_param { power: 0.1 scale: inf shift: -Infinity } }")
    assert net.layer[0].power_param.power == pytest.approx(0.1, abs=1e-8)
    assert math.isinf(net.layer[0].power_param.scale) and net.layer[0].power_param.shift == -math.inf
