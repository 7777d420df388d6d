"""The compiled schema: it is that of caffe.proto, and works with the protobuf that is installed."""

import re
from pathlib import Path

from converters.schemas import caffe_pb2
from google.protobuf import descriptor_pb2

from converters import schemas

FOLDER = Path(schemas.__file__).parent


def test_the_compiled_schema_is_that_of_the_proto() -> None:
    """Every field of caffe.proto, by message, name and number."""
    source = re.sub(r"//[^\n]*", "", (FOLDER / "caffe.proto").read_text())
    declared, message = set(), ""
    for word, enclosing, name, number in re.findall(r"\b(message|enum) (\w+) \{|(?:optional|repeated) [\w.]+ (\w+) = (\d+)", source):
        message = enclosing if word == "message" else message
        if name:
            declared.add((message, name, int(number)))
    proto = descriptor_pb2.FileDescriptorProto()
    proto.ParseFromString(caffe_pb2.DESCRIPTOR.serialized_pb)
    compiled = {(message.name, field.name, field.number) for message in proto.message_type for field in message.field}
    assert compiled == declared


def test_no_runtime_check() -> None:
    """Code with a check refuses every protobuf older than its compiler; ours has to run on 4.25."""
    assert "ValidateProtobufRuntimeVersion" not in (FOLDER / "caffe_pb2.py").read_text()


def test_wire_facts() -> None:
    """Numbers that Caffe's files hold."""
    layer = caffe_pb2.LayerParameter(name="a", type="ReLU", bottom=["x"], top=["y"])
    assert layer.SerializeToString() == b"\x0a\x01a\x12\x04ReLU\x1a\x01x\x22\x01y"
    net = caffe_pb2.NetParameter.FromString(b"\x0a\x01n" + b"\xa2\x06\x03\x0a\x01a")
    assert (net.name, net.layer[0].name) == ("n", "a")
    assert caffe_pb2.V1LayerParameter.LayerType.Value("CONVOLUTION") == 4


def test_forks_are_found_by_name_alone() -> None:
    """No fork's field takes a number that another Caffe uses."""
    for name in ("bn_param", "permute_param", "norm_param", "prior_box_param", "interp_param", "upsample_param", "roi_pooling_param"):
        assert caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name[name].number >= 20000
    assert caffe_pb2.PoolingParameter.DESCRIPTOR.fields_by_name["ceil_mode"].number >= 20000
    assert caffe_pb2.PoolingParameter.DESCRIPTOR.fields_by_name["round_mode"].number == 13
