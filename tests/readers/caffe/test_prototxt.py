"""Net definitions of every age, the layers that phase TEST keeps, and what is no net."""

from pathlib import Path

import pytest

from converters.errors import ConversionError, FormatError
from converters.readers.caffe.prototxt import Net, read_net

RELU = 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }'


def read(folder: Path, text: str | bytes) -> Net:
    path = folder / "net.prototxt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_net(path)


def names(net: Net) -> list[str]:
    return [layer.name for layer in net.layers]


def shapes(net: Net) -> list[list[int]]:
    return [list(s.dim) for s in net.layers[0].params.input_param.shape]


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ('input: "data" input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 5', [[1, 3, 4, 5]]),
        ('input: "data" input_shape { dim: 1 dim: 3 }', [[1, 3]]),
        ('input: "data" input: "b" input_dim: [1, 3, 4, 5, 1, 1, 2, 2]', [[1, 3, 4, 5], [1, 1, 2, 2]]),
        ('input: "data" input: "b" input_shape { dim: 1 } input_shape { dim: 2 }', [[1], [2]]),
        ('input: "data" input: "b" input_shape { dim: 1 dim: 2 }', [[1, 2]]),
        ('input: "data"', []),
    ],
)
def test_header_inputs(header: str, wanted: list[list[int]], tmp_path: Path) -> None:
    for text in (header + "\n" + RELU, RELU + header):
        net = read(tmp_path, text)
        assert net.layers[0].type == "Input" and net.layers[0].tops[0] == "data"
        assert shapes(net) == wanted


def test_lines(tmp_path: Path) -> None:
    net = read(tmp_path, f'name: "n"\n# a comment\n{RELU}\n\n{RELU}'.replace("\n", "\r\n"))
    assert [layer.line for layer in net.layers] == [3, 5]
    assert str(net.layers[1].source) == "net.prototxt:5 r (ReLU)"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    assert names(read(tmp_path, RELU.replace('"r"', '"größe"', 1).encode(encoding))) == ["größe"]


def test_comments_in_any_encoding(tmp_path: Path) -> None:
    assert names(read(tmp_path, "# 卷积\n".encode("gb18030") + RELU.encode())) == ["r"]


RULES = [
    ("", True),
    ("include { phase: TEST }", True),
    ("include { phase: TRAIN }", False),
    ("include { phase: TRAIN } include { phase: TEST }", True),
    ("exclude { phase: TEST }", False),
    ("exclude { phase: TRAIN }", True),
    ("include { stage: 'deploy' }", True),
    ("include { stage: 'other' }", False),
    ("include { stage: 'deploy' stage: 'other' }", False),
    ("include { not_stage: 'deploy' }", False),
    ("include { not_stage: 'other' }", True),
    ("exclude { phase: TEST stage: 'other' }", True),
    ("include { min_level: 1 }", False),
    ("include { max_level: 0 }", True),
    ("include { min_level: -2 max_level: 3 }", True),
    ("include { }", True),
]


@pytest.mark.parametrize(("rule", "kept"), RULES)
def test_rules(rule: str, kept: bool, tmp_path: Path) -> None:
    """The state is phase TEST at level 0 with the file's stages, whatever phase and level the file names (net.cpp, Init)."""
    text = f"state {{ phase: TRAIN level: 5 stage: 'deploy' }} {RELU} layer {{ name: 'x' type: 'ReLU' bottom: 'r' top: 'x' {rule} }}"
    assert names(read(tmp_path, text)) == ["r", *["x"] * kept]


def test_v1(tmp_path: Path) -> None:
    text = """
    layers { name: "c" type: CONVOLUTION bottom: "d" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 param: "w" param: "b"
      blob_share_mode: PERMISSIVE convolution_param { num_output: 3 kernel_size: 2 } include { phase: TEST } }
    layers { name: "l" type: SOFTMAX_LOSS bottom: "c" bottom: "t" loss_weight: 2 include: { phase: TRAIN } }
    layers { name: "s" type: MYSTERY bottom: "c" top: "s" }"""
    net = read(tmp_path, text)
    conv, mystery = net.layers
    assert (conv.type, conv.params.convolution_param.num_output, mystery.type) == ("Convolution", 3, "MYSTERY")
    assert [(p.name, p.share_mode) for p in conv.params.param] == [("w", 1), ("b", 0)]


def test_v0(tmp_path: Path) -> None:
    text = """
    input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
    layers { layer { name: "pad" type: "padding" pad: 2 } bottom: "data" top: "padded" }
    layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 3 stride: 2 biasterm: false group: 1
                     weight_filler { type: "gaussian" std: 0.1 } blobs_lr: 1. } bottom: "padded" top: "c" }
    layers { layer { name: "p" type: "pool" pool: AVE kernelsize: 2 stride: 2 } bottom: "c" top: "p" }
    layers { layer { name: "n" type: "lrn" local_size: 3 alpha: 0.1 beta: 0.5 } bottom: "p" top: "n" }
    layers { layer { name: "f" type: "innerproduct" num_output: 5 } bottom: "n" top: "f" }
    layers { layer { name: "x" type: "concat" concat_dim: 1 } bottom: "f" bottom: "f" top: "x" }"""
    net = read(tmp_path, text)
    assert [layer.type for layer in net.layers] == ["Input", "Convolution", "Pooling", "LRN", "InnerProduct", "Concat"]
    conv = net.layers[1].params.convolution_param
    assert (list(conv.pad), list(conv.kernel_size), list(conv.stride), conv.bias_term, conv.weight_filler.type) == (
        [2],
        [3],
        [2],
        False,
        "gaussian",
    )
    assert net.layers[1].bottoms == ["data"]
    assert (net.layers[2].params.pooling_param.pool, net.layers[3].params.lrn_param.local_size) == (1, 3)


def test_extra_fields_for_a_lowering_of_the_user(tmp_path: Path) -> None:
    text = 'layer { name: "m" type: "Mine" my_param { alpha: 0.5 mode: FAST on: true list: 1 list: 2 deep { s: "x" } } }'
    (layer,) = read(tmp_path, text).layers
    assert layer.extra == {"my_param": {"alpha": 0.5, "mode": "FAST", "on": True, "list": [1, 2], "deep": {"s": "x"}}}


NO_NETS = {
    "empty": (b"", "net.prototxt: the file is empty"),
    "blank": (b"\n# nothing\n", "no layers"),
    "solver": (
        b'net: "train_val.prototxt"\nbase_lr: 0.01\n',
        "a solver's prototxt; give the prototxt of the net (it names 'train_val.prototxt')",
    ),
    "binary": (b"\x0a\x04name\xa2\x06\x03\0\0\0", "binary data where a text prototxt is expected"),
    "mixed": (f"{RELU}\nlayers {{ name: 'b' }}".encode(), "net.prototxt:2:1: 'layer' and 'layers' in one file"),
    "both rules": (b"layer { include { phase: TEST } exclude { phase: TRAIN } }", "both 'include' and 'exclude'"),
    "only train": (b"layer { name: 'x' include { phase: TRAIN } }", "no layers in phase TEST"),
    "net field": (b"nmae: 'x'\nlayer { }", "net.prototxt:1:1: nmae: no such field"),
    "dims": (b"input: 'a' input_dim: 1 input_dim: 2 layer { }", "2 input_dim for 1 inputs"),
    "latin-1": ("layer { name: 'größe' }".encode("latin-1"), "net.prototxt:1:15: a string isn't UTF-8"),
    "padding": (
        b"layers { layer { type: 'padding' } bottom: 'a' top: 'b' } layers { layer { type: 'relu' } bottom: 'b' }",
        "before conv and pool",
    ),
    "scalar layer": (b"layer: 5", "layer is a message"),
}


@pytest.mark.parametrize("kind", NO_NETS)
def test_no_net(kind: str, tmp_path: Path) -> None:
    data, words = NO_NETS[kind]
    with pytest.raises(ConversionError) as caught:
        read(tmp_path, data)
    assert words in str(caught.value)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="nested more than 100 deep"):
        read(tmp_path, "layer { a " + "{ a " * 100_000)
