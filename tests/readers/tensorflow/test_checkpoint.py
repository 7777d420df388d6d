"""The parts that checkpoints are made of: checksums, blocks, keys of slices; what of a checkpoint is the net."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from converters.schemas.wire import varints

import converters
from converters.cli import main
from converters.errors import FormatError
from converters.readers.tensorflow.checkpoints.crc32c import POLYNOMIAL, TERMS, by_numpy, crc32c, masked
from converters.readers.tensorflow.checkpoints.slices import slice_key
from converters.readers.tensorflow.checkpoints.snappy import unpack
from tests.bench import stream


def bit_by_bit(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "checksum"),
    [  # RFC 3720, appendix B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
    ],
)
def test_checksums_are_those_of_the_rfc(data, checksum):
    assert by_numpy(memoryview(data)) == crc32c(memoryview(data)) == checksum


@pytest.mark.parametrize("size", [0, 1, 3, 4, 255, 257, 1023, 1029, 11370, 11371, 20001, 90960, 90961, 125547, 250007])
def test_checksums_of_every_length_are_those_of_single_bits(size):
    data = stream("crc").bytes(size)
    assert by_numpy(memoryview(data)) == crc32c(memoryview(data)) == bit_by_bit(data)


def test_the_terms_that_data_is_divided_by_are_a_multiple_of_the_polynomial():
    divisor = 1 << 32 | int(f"{POLYNOMIAL:032b}"[::-1], 2)
    rest = 1 | sum(1 << power for power in TERMS)
    while rest.bit_length() > 32:
        rest ^= divisor << rest.bit_length() - 33
    assert rest == 0


def test_snappy_copies_may_overlap():
    literal = bytes([3 - 1 << 2]) + b"abc"
    copy = bytes([(8 - 4) << 2 | 1 | (3 >> 8) << 5, 3])  # 8 bytes from 3 back
    assert unpack(memoryview(bytes([11]) + literal + copy)) == b"abcabcabcab"


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff\x0f\x00a", b"\x05\x00a", b"\x05\x09\x03"])
def test_snappy_refuses_what_lies(data):
    with pytest.raises(FormatError):
        unpack(memoryview(data))


def test_keys_of_slices_sort_as_they_are_written():
    # "v", 2 axes: all of the first (80 7f), 64 (c0 40) from 3 on of the second
    assert slice_key(b"v", ((0, -1), (3, 64))) == b"\x00v\x00\x01\x01\x02\x80\x7f\x83\xc0\x40"
    assert slice_key(b"a\x00b\xff", ()) == b"\x00a\x00\xffb\xff\x00\x00\x01\x00"


def test_packed_numbers_of_ten_bytes_are_negative():
    assert varints(memoryview(b"\x01\x96\x01" + b"\xff" * 9 + b"\x01"), "x").tolist() == [1, 150, -1]
    with pytest.raises(FormatError):
        varints(memoryview(b"\x96"), "x")


# -- checkpoints made here, byte by byte ----------------------------------------------------------------------------------


def number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(n: int, data: bytes) -> bytes:
    return number(n << 3 | 2) + number(len(data)) + data


def table(entries: dict[bytes, bytes]) -> bytes:
    def block(pairs: dict[bytes, bytes]) -> bytes:
        body = b"".join(b"\0" + number(len(k)) + number(len(v)) + k + v for k, v in sorted(pairs.items())) + struct.pack("<II", 0, 1)
        return body + b"\0" + struct.pack("<I", masked(bit_by_bit(body + b"\0")))

    first = block(entries)
    index = block({b"\xff": number(0) + number(len(first) - 5)})
    handles = number(0) + number(0) + number(len(first)) + number(len(index) - 5)
    return first + index + handles.ljust(40, b"\0") + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"


def write(prefix, arrays: dict[str, np.ndarray]) -> None:
    """A checkpoint of version 2 with these float32 variables."""
    entries, data = {b"": b"\x08\x01"}, b""
    for name, array in arrays.items():
        shape = b"".join(field(2, b"\x08" + number(n)) for n in array.shape)
        raw = array.astype("<f4").tobytes()
        entry = b"\x08\x01" + field(2, shape) + b"\x20" + number(len(data)) + b"\x28" + number(len(raw))
        entries[name.encode()] = entry + b"\x35" + struct.pack("<I", masked(bit_by_bit(raw)))
        data += raw
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(entries))
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)


NET = {
    "conv/weights": stream("w").normal(size=(3, 2, 4, 5)).astype(np.float32),
    "conv/biases": np.arange(5, dtype=np.float32),
    "sep/depthwise_weights": stream("d").normal(size=(3, 3, 5, 2)).astype(np.float32),
    "seq/depthwise_kernel": stream("s").normal(size=(3, 5, 2)).astype(np.float32),
    "bn/BatchNorm/gamma": np.ones(5, np.float32),
    "bn/BatchNorm/moving_mean": np.full(5, 2, np.float32),
    "fc/weights": stream("f").normal(size=(6, 4)).astype(np.float32),
}
TRAINING = {
    "conv/weights/Momentum": np.zeros((3, 2, 4, 5), np.float32),
    "fc/weights/Adam_1": np.zeros((6, 4), np.float32),
    "fc/weights/ExponentialMovingAverage": np.full((6, 4), 7, np.float32),
    "beta1_power": np.zeros((), np.float32),
    "global_step": np.zeros((), np.float32),
}


@pytest.fixture
def checkpoint(tmp_path):
    write(tmp_path / "model.ckpt", NET | TRAINING)
    return tmp_path / "model.ckpt"


@pytest.mark.parametrize("form", ["{}", "{}.index", "{}.data-00000-of-00001"])
def test_any_of_the_files_stands_for_the_checkpoint(checkpoint, form):
    found = converters.load_weights(form.format(checkpoint))
    assert set(found) == set(NET | TRAINING)
    np.testing.assert_array_equal(np.asarray(found["fc/weights"]), NET["fc/weights"])


def test_the_folder_stands_for_the_checkpoint_that_its_text_names(checkpoint):
    (checkpoint.parent / "checkpoint").write_text('model_checkpoint_path: "/home/somebody/runs/model.ckpt"\n')
    assert set(converters.load_weights(checkpoint.parent)) == set(NET | TRAINING)


def old(name: str, array: np.ndarray) -> bytes:
    """A checkpoint of version 1 with one float32 variable of one axis."""
    whole = field(1, b"")
    listed = field(1, name.encode()) + field(2, field(2, b"\x08" + number(len(array)))) + b"\x18\x01" + field(4, whole)
    data = field(1, name.encode()) + field(2, whole) + field(3, field(5, array.astype("<f4").tobytes()))
    return table({b"": field(1, field(1, listed)), b"\0" + name.encode(): field(2, data)})


@pytest.mark.parametrize("form", ["model.ckpt", "model.ckpt-?????-of-00002", "model.ckpt-00001-of-00002", "checkpoint", "."])
def test_an_old_checkpoint_in_several_files_goes_by_any_name(tmp_path, form):
    arrays = {"a": np.arange(3.0), "b": np.arange(4.0)}
    for place, (name, array) in enumerate(arrays.items()):
        (tmp_path / f"model.ckpt-{place:05d}-of-00002").write_bytes(old(name, array))
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/home/somebody/model.ckpt-?????-of-00002"\n')
    weights = converters.load_weights(tmp_path / form)
    assert {name: tensor.numpy().tolist() for name, tensor in weights.items()} == {"a": [0, 1, 2], "b": [0, 1, 2, 3]}


def test_a_flipped_bit_is_found_when_its_numbers_are_looked_at(checkpoint):
    data = checkpoint.with_name("model.ckpt.data-00000-of-00001")
    raw = bytearray(data.read_bytes())
    raw[-30] ^= 1
    data.write_bytes(raw)
    weights = converters.load_weights(checkpoint)
    np.asarray(weights["conv/weights"])
    with pytest.raises(FormatError, match="damaged"):
        [np.asarray(tensor.numpy()) for tensor in weights.values()]


def test_strip_leaves_out_what_the_optimizer_keeps(checkpoint):
    report = converters.strip_to_weights(checkpoint, checkpoint.with_name("out.safetensors"))
    assert {entry.path for entry in report.left_out} == set(TRAINING)
    assert set(converters.load_weights(report.path)) == set(NET)


def test_strip_takes_moving_averages_when_asked(checkpoint):
    report = converters.strip_to_weights(checkpoint, checkpoint.with_name("out.pth"), ema=True)
    assert np.asarray(converters.load_weights(report.path)["fc/weights"]).tolist() == np.full((6, 4), 7.0).tolist()
    write(checkpoint, NET)
    with pytest.raises(converters.ConversionError, match="no moving averages"):
        converters.strip_to_weights(checkpoint, checkpoint.with_name("other.pth"), ema=True)


def test_strip_gives_torchs_layout_and_names(checkpoint):
    report = converters.strip_to_weights(checkpoint, checkpoint.with_name("out.safetensors"), torch_layout=True, torch_names=True)
    found = {name: np.asarray(tensor.numpy()) for name, tensor in converters.load_weights(report.path).items()}
    assert set(found) == {
        "conv.weight",
        "conv.bias",
        "sep.weight",
        "seq.weight",
        "bn.BatchNorm.weight",
        "bn.BatchNorm.running_mean",
        "fc.weight",
    }
    np.testing.assert_array_equal(found["conv.weight"], NET["conv/weights"].transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(found["fc.weight"], NET["fc/weights"].T)
    for channel in range(10):  # output channel: input channel * multiplier + m
        np.testing.assert_array_equal(found["sep.weight"][channel, 0], NET["sep/depthwise_weights"][:, :, channel // 2, channel % 2])
        np.testing.assert_array_equal(found["seq.weight"][channel, 0], NET["seq/depthwise_kernel"][:, channel // 2, channel % 2])


def test_variables_of_tensorflow_2_are_named_by_their_path_and_told_from_the_optimizers(tmp_path):
    end, dense = "/.ATTRIBUTES/VARIABLE_VALUE", NET["fc/weights"]
    arrays = {
        "layer-0/kernel": dense,
        "layer-0/bias": np.ones(4),
        "layer-0/kernel/.OPTIMIZER_SLOT/optimizer/m": dense,
        "optimizer/iter": np.ones(()),
    }
    write(tmp_path / "ckpt-1", {name + end: array for name, array in {**arrays, "save_counter": np.ones(())}.items()})
    report = converters.strip_to_weights(tmp_path / "ckpt-1", tmp_path / "out.safetensors", torch_layout=True, torch_names=True)
    weights = converters.load_weights(report.path)
    assert set(weights) == {"layer-0.weight", "layer-0.bias"}
    np.testing.assert_array_equal(weights["layer-0.weight"].numpy(), dense.T)


def test_strips_options_for_tensorflow_are_refused_elsewhere(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    with pytest.raises(converters.ConversionError, match="for TensorFlow checkpoints"):
        converters.strip_to_weights(tmp_path / "w.safetensors", tmp_path / "out.pth", ema=True)


def test_a_graph_is_no_checkpoint(tmp_path, capsys):
    from tests.readers.tensorflow.test_operators import ROWS

    (tmp_path / "graph.pb").write_bytes(ROWS[0].graph().SerializeToString())
    with pytest.raises(converters.ConversionError, match="holds no weights"):
        converters.load_weights(tmp_path / "graph.pb")
    assert main(["strip-to-weights", str(tmp_path / "graph.pb"), str(tmp_path / "out.pth"), "--json"]) == 1
    assert "checkpoint" in json.loads(capsys.readouterr().out)["hint"]
