"""Symbol files: what every release wrote, and what is wrong with broken ones."""

import json

import pytest

from converters import ConversionError, FormatError
from converters.readers.mxnet.symbol import read_symbol

VARIABLE = {"op": "null", "name": "data", "inputs": []}


def read(tmp_path, document):
    path = tmp_path / "net-symbol.json"
    path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return read_symbol(path)


def relu(inputs, **more):
    return {"op": "Activation", "name": "relu", "inputs": inputs, **more}


@pytest.mark.parametrize("field", ["param", "attr", "attrs"])
@pytest.mark.parametrize("entry", [[0, 0], [0, 0, 0]])
def test_attributes_and_inputs_of_all_ages(tmp_path, field, entry):
    symbol = read(tmp_path, {"nodes": [VARIABLE, relu([entry], **{field: {"act_type": "relu"}})], "heads": [[1, 0]]})
    assert symbol.order[1].attributes == {"act_type": "relu"}
    assert symbol.order[1].inputs == ((0, 0),)
    assert symbol.version == 800


def test_param_and_attr_of_0_8_are_one(tmp_path):
    node = relu([[0, 0]], param={"act_type": "relu"}, attr={"lr_mult": "2", "weight_lr_mult": "3", "ctx_group": "a", "__shape__": "(1,)"})
    symbol = read(tmp_path, {"nodes": [VARIABLE, node], "heads": [[1, 0]]})
    assert symbol.order[1].attributes == {"act_type": "relu", "__shape__": "(1,)"}


def test_values_that_are_no_text_are_read_as_text(tmp_path):
    node = relu([[0, 0]], attrs={"a": 4, "b": True, "c": [3, 3], "d": 0.5})
    symbol = read(tmp_path, {"nodes": [VARIABLE, node], "heads": [[1, 0]], "attrs": {"mxnet_version": ["int", 10901]}})
    assert symbol.order[1].attributes == {"a": "4", "b": "True", "c": "(3, 3)", "d": "0.5"}
    assert symbol.version == 10901


def test_order_is_depth_first_and_leaves_out_what_no_head_reaches(tmp_path):
    nodes = [VARIABLE, {**VARIABLE, "name": "b"}, relu([[1, 0]]), relu([[0, 0]]), {"op": "_plus", "name": "p", "inputs": [[2, 0], [3, 0]]}]
    symbol = read(tmp_path, {"nodes": [*nodes, relu([[4, 0]])], "heads": [[4, 0]]})
    assert [n.index for n in symbol.order] == [1, 2, 0, 3, 4]


def test_a_very_deep_net_is_read(tmp_path):
    nodes = [VARIABLE] + [relu([[i, 0]]) for i in range(10_000)]
    assert len(read(tmp_path, {"nodes": nodes, "heads": [[10_000, 0]]}).order) == 10_001


BROKEN = {
    "comma": (b'{"nodes": [\n1,]}', "net-symbol.json:2: not valid JSON"),
    "other": ({"class_name": "Model"}, "not an MXNet symbol"),
    "array": ([1], "not an MXNet symbol"),
    "no nodes": ({"nodes": []}, "empty graph"),
    "no heads": ({"nodes": [VARIABLE]}, "'heads'"),
    "head": ({"nodes": [VARIABLE], "heads": [[7, 0]]}, "'heads' refers to node 7"),
    "node": ({"nodes": [3], "heads": [[0, 0]]}, "node 0 isn't a JSON object"),
    "op": ({"nodes": [{"op": 3, "name": "x"}], "heads": [[0, 0]]}, "node 0 has no text 'op'"),
    "inputs": ({"nodes": [relu([["a", 0]])], "heads": [[0, 0]]}, "pairs"),
    "dangling": ({"nodes": [VARIABLE, relu([[999, 0]])], "heads": [[1, 0]]}, "node 1 'relu' refers to node 999"),
    "negative": ({"nodes": [VARIABLE, relu([[-1, 0]])], "heads": [[1, 0]]}, "refers to node -1"),
    "self": ({"nodes": [VARIABLE, relu([[1, 0]])], "heads": [[1, 0]]}, "is its own input"),
    "circle": ({"nodes": [relu([[1, 0]]), relu([[0, 0]])], "heads": [[1, 0]]}, "depends on itself"),
    "bytes": (b"\xff\xfe{}", "isn't UTF-8"),
    "deep": (b"[" * 100_000, "not valid JSON|nested too deeply"),
    "digits": (b'{"nodes": [' + b"9" * 10_000 + b"]}", "not valid JSON|isn't a JSON object"),
}


@pytest.mark.parametrize("document, message", BROKEN.values(), ids=BROKEN)
def test_broken_files_say_what_is_wrong(tmp_path, document, message):
    with pytest.raises(FormatError, match=message) as problem:
        read(tmp_path, document)
    assert "net-symbol.json" in str(problem.value)


# -- graphs that nodes hold ---------------------------------------------------------------------------------------------


def fused(inner, **more):
    """A symbol whose one operator holds a graph, as a backend fuses them."""
    node = {"op": "_sg_mkldnn_conv", "name": "sg", "inputs": [[0, 0]], "subgraphs": [inner], **more}
    return {"nodes": [VARIABLE, node], "heads": [[1, 0]]}


INNER = {"nodes": [VARIABLE, relu([[0, 0]])], "arg_nodes": [0], "heads": [[1, 0]]}


def test_what_a_backend_fused_is_opened(tmp_path):
    symbol = read(tmp_path, fused(INNER))
    assert [node.op for node in symbol.order] == ["null", "Activation"]
    assert symbol.order[1].inputs == ((0, 0),)


def test_what_was_quantized_too_stays(tmp_path):
    """One operator, which then has the attributes of those that it holds and says what they are."""
    convolution = {"op": "Convolution", "name": "conv", "attrs": {"kernel": "(3, 3)"}, "inputs": [[0, 0]]}
    relu = {"op": "Activation", "name": "relu", "attrs": {"act_type": "relu"}, "inputs": [[1, 0]]}
    inner = {"nodes": [VARIABLE, convolution, relu], "arg_nodes": [0], "heads": [[2, 0]]}
    symbol = read(tmp_path, fused(inner, attrs={"quantized": "true"}))
    assert [node.op for node in symbol.order] == ["null", "_sg_mkldnn_conv"]
    assert symbol.order[1].attributes == {"quantized": "true", "kernel": "(3, 3)", "steps": "Convolution relu"}


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ({**INNER, "arg_nodes": [7]}, "'arg_nodes' must hold numbers of nodes"),
        ({**INNER, "arg_nodes": []}, "its graph has a variable 'data' that is no input of it"),
        ({**INNER, "arg_nodes": [0, 0]}, "its graph takes 2 inputs, but it has 1"),
        ({"arg_nodes": [0]}, "'subgraphs' must hold graphs"),
        ({**INNER, "heads": [[9, 0]]}, "'heads' refers to node 9"),
    ],
)
def test_broken_inner_graphs_are_refused(tmp_path, inner, message):
    with pytest.raises(ConversionError, match=message):
        read(tmp_path, fused(inner))


def test_graphs_in_graphs_without_end_are_refused(tmp_path):
    inner = INNER
    for _ in range(20):
        inner = {
            "nodes": [VARIABLE, {"op": "_foreach", "name": "f", "inputs": [[0, 0]], "subgraphs": [inner]}],
            "arg_nodes": [0],
            "heads": [[1, 0]],
        }
    with pytest.raises(FormatError, match="graphs in graphs, more than 8 deep"):
        read(tmp_path, fused(inner))


def test_sparse_names_are_the_dense_operators(tmp_path):
    node = {"op": "_sparse_abs", "name": "a", "inputs": [[0, 0]]}
    assert read(tmp_path, {"nodes": [VARIABLE, node], "heads": [[1, 0]]}).order[1].op == "abs"
