"""What stays open of recurrent nets, and which heads are left out for want of labels."""

import numpy as np
import pytest

from converters import ConversionWarning, load
from tests.readers.mxnet.wire import node, params, symbol

RNN = {"state_size": 4, "num_layers": 1, "mode": "rnn_tanh", "state_outputs": True}
VECTOR = np.random.RandomState(2).randn(4 * 3 + 4 * 4 + 2 * 4).astype(np.float32)


def shapes(tmp_path, nodes, heads, inputs, arrays=None, **options):
    model = load(
        symbol(tmp_path / "net-symbol.json", nodes, heads), params(tmp_path / "net.params", arrays or {}), inputs=inputs, **options
    )
    return {str(v.name): [d if isinstance(d, int) else d.value for d in v.shape] for v in (*model.graph.inputs, *model.graph.outputs)}


def recurrent(before):
    """data, the vector, a state, what comes before the RNN, and the RNN itself."""
    nodes = [node("null", "data"), node("null", "p"), node("null", "state"), *before]
    return [*nodes, node("RNN", "rnn", [(len(nodes) - 1 if before else 0, 0), (1, 0), (2, 0)], **RNN)]


def test_time_and_batch_are_open(tmp_path):
    found = shapes(tmp_path, recurrent([]), [(3, 0), (3, 1)], {"data": (5, 2, 3), "state": (1, 2, 4)}, {"p": VECTOR})
    assert found["data"] == ["T", "N", 3]
    assert found["state"] == [1, "N", 4]
    assert found["rnn_output"] == ["T", "N", 4]


def test_a_transpose_tells_that_the_batch_comes_first(tmp_path):
    nodes = recurrent([node("SwapAxis", "swap", [(0, 0)], dim1=0, dim2=1)])
    found = shapes(tmp_path, nodes, [(4, 0)], {"data": (2, 5, 3), "state": (1, 2, 4)}, {"p": VECTOR})
    assert found["data"] == ["N", "T", 3]


@pytest.mark.parametrize("op", ["SequenceLast", "SequenceReverse"])
def test_a_sequence_without_lengths_has_its_time_first_too(tmp_path, op):
    nodes = [node("null", "data"), node(op, "cut", [(0, 0)])]
    assert shapes(tmp_path, nodes, [(1, 0)], {"data": (5, 2, 3)})["data"] == ["T", "N", 3]


def test_steps_that_are_taken_apart_leave_the_batch_on_the_second_axis_open(tmp_path):
    nodes = [node("null", "data"), node("SliceChannel", "steps", [(0, 0)], axis=0, num_outputs=5, squeeze_axis=True)]
    nodes.append(node("elemwise_add", "sum", [(1, 0), (1, 4)]))
    assert shapes(tmp_path, nodes, [(2, 0)], {"data": (5, 2, 3)}) == {"data": [5, "N", 3], "sum_output": ["N", 3]}


def test_what_turns_a_sequence_round_keeps_its_axes(tmp_path):
    found = shapes(
        tmp_path,
        recurrent([node("reverse", "back", [(0, 0)], axis=0)]),
        [(4, 0)],
        {"data": (5, 2, 3), "state": (1, 2, 4)},
        {"p": VECTOR},
    )
    assert found["data"] == ["T", "N", 3]


def test_a_net_that_counts_its_steps_fixes_time_alone_and_says_so(tmp_path):
    nodes = [*recurrent([]), node("SliceChannel", "steps", [(3, 0)], axis=0, num_outputs=5)]
    with pytest.warns(ConversionWarning, match=r"operator 'steps' .*takes T of the given size alone"):
        found = shapes(tmp_path, nodes, [(4, 0)], {"data": (5, 2, 3), "state": (1, 2, 4)}, {"p": VECTOR})
    assert found["data"] == [5, "N", 3]


def test_a_contracted_input_alone_is_fixed(tmp_path):
    nodes = [node("null", "data"), node("null", "other"), node("dot", "dot", [(0, 0), (1, 0)])]
    with pytest.warns(ConversionWarning, match="operator 'dot'"):
        assert shapes(tmp_path, nodes, [(2, 0)], {"data": (2, 3), "other": (3, 5)}) == {
            "data": ["N", 3],
            "other": [3, 5],
            "dot_output": ["N", 5],
        }


def test_what_is_enlarged_keeps_its_batch(tmp_path):
    nodes = [node("null", "data"), node("UpSampling", "up", [(0, 0)], scale=2, sample_type="nearest", num_args=1)]
    nodes.append(node("Flatten", "flat", [(1, 0)]))
    assert shapes(tmp_path, nodes, [(2, 0)], {"data": (2, 3, 4, 4)}) == {"data": ["N", 3, 4, 4], "flat_output": ["N", 192]}


LABELED = [
    node("null", "data"),
    node("null", "my_label"),
    node("relu", "kept", [(0, 0)]),
    node("elemwise_sub", "off", [(0, 0), (1, 0)]),
    node("MakeLoss", "loss", [(3, 0)]),
]


def test_a_head_that_needs_labels_is_left_out_with_a_warning(tmp_path):
    with pytest.warns(ConversionWarning, match="'loss' .*needs labels.*left out"):
        found = shapes(tmp_path, LABELED, [(2, 0), (4, 0)], {"data": (2, 3)})
    assert list(found) == ["data", "kept_output"]


def test_a_label_whose_shape_is_given_is_an_input(tmp_path):
    found = shapes(tmp_path, LABELED, [(2, 0), (4, 0)], {"data": (2, 3), "my_label": (2, 3)})
    assert list(found) == ["data", "my_label", "kept_output", "loss_output"]


def test_a_background_that_mxnet_ignores_is_said(tmp_path):
    nodes = [node("null", name) for name in ("scores", "offsets", "anchors")]
    nodes.append(node("_contrib_MultiBoxDetection", "boxes", [(0, 0), (1, 0), (2, 0)], background_id=2))
    with pytest.warns(ConversionWarning, match="operator 'boxes' .*background_id 2: class 0 is the background"):
        found = shapes(tmp_path, nodes, [(3, 0)], {"scores": (2, 4, 5), "offsets": (2, 20), "anchors": (1, 5, 4)})
    assert found["boxes_output"] == ["N", 5, 6]
