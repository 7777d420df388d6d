"""Sizes that MXNet refuses, or answers otherwise than runtimes that broadcast and slice on: refused here too when the net runs."""

import numpy as np
import pytest
import torch

from converters import ConversionWarning, load, to_module
from tests.bench import REFUSALS
from tests.readers.mxnet.wire import node, params, symbol


def module(tmp_path, nodes, inputs, arrays=None):
    return to_module(
        load(
            symbol(tmp_path / "net-symbol.json", nodes, [(len(nodes) - 1, 0)]), params(tmp_path / "net.params", arrays or {}), inputs=inputs
        )
    )


def data(*nodes):
    return [node("null", "data"), *nodes]


ROIS = [node("null", "data"), node("null", "rois")]
REGIONS = {"data": (1, 2, 8, 8), "rois": (3, 5)}
WIDER = [(1, 2, 8, 8), (3, 6)]
"""MXNet: bbox should be a 2D tensor of shape [batch, 5]."""

REFUSED = {
    "an axis that is dropped": (data(node("squeeze", "y", [(0, 0)], axis=(1, 3))), {"data": (2, 1, 3, 1)}, [(2, 2, 3, 1)]),
    "rows of a product": (
        data(node("null", "w"), node("dot", "y", [(0, 0), (1, 0)])),
        {"data": (2, 3, 4)},
        [(2, 3, 8)],
    ),
    "rows of a turned product": (
        data(node("null", "w"), node("dot", "y", [(0, 0), (1, 0)], transpose_a=True)),
        {"data": (4, 3, 2)},
        [(8, 3, 2)],
    ),
    "an index of another length": (
        data(node("null", "index"), node("pick", "y", [(0, 0), (1, 0)], axis=1)),
        {"data": (2, 3, 4), "index": (2, 4)},
        [(2, 3, 5), (2, 4)],
    ),
    "an index of another last length": (
        data(node("null", "index"), node("pick", "y", [(0, 0), (1, 0)], axis=1)),
        {"data": (2, 3, 4, 5), "index": (2, 4, 5)},
        [(2, 3, 4, 6), (2, 4, 5)],
    ),
    "offsets of boxes": (
        data(node("null", "anchors"), node("_contrib_box_decode", "y", [(0, 0), (1, 0)])),
        {"data": (2, 5, 4), "anchors": (1, 5, 4)},
        [(2, 5, 8), (1, 5, 4)],
    ),
    "an image under taps": (
        [
            *(node("null", name) for name in ("data", "offset", "mask", "w")),
            node("_contrib_ModulatedDeformableConvolution", "y", [(n, 0) for n in range(4)], kernel=(3, 3), num_filter=3, no_bias=True),
        ],
        {"data": (1, 2, 5, 5), "offset": (1, 18, 3, 3), "mask": (1, 9, 3, 3)},
        [(1, 2, 4, 4), (1, 18, 3, 3), (1, 9, 3, 3)],
    ),
    "regions, pooled": ([*ROIS, node("ROIPooling", "y", [(0, 0), (1, 0)], pooled_size=(2, 2), spatial_scale=1.0)], REGIONS, WIDER),
    "regions, aligned": (
        [*ROIS, node("_contrib_ROIAlign", "y", [(0, 0), (1, 0)], pooled_size=(2, 2), spatial_scale=1.0)],
        REGIONS,
        WIDER,
    ),
}

WEIGHTS = {"product": (4, 5), "taps": (3, 2, 3, 3)}


@pytest.mark.filterwarnings("ignore::converters.ConversionWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_mxnet_refuses_is_refused_when_the_net_runs(kind, tmp_path):
    nodes, inputs, other = REFUSED[kind]
    weight = next((shape for word, shape in WEIGHTS.items() if word in kind), None)
    net = module(tmp_path, nodes, inputs, {} if weight is None else {"w": np.ones(weight, np.float32)})
    net(*map(torch.zeros, inputs.values()))
    with pytest.raises(REFUSALS):
        net(*map(torch.zeros, other))


def test_boxes_of_several_images_and_classes_keep_their_axes(tmp_path):
    """MXNet: (2, 3, 8, 6) for (2, 3, 8, 6); a net made for 2 classes may refuse 3, but not give them as images."""
    net = module(tmp_path, data(node("_contrib_box_nms", "y", [(0, 0)])), {"data": (2, 2, 8, 6)})
    assert net(torch.zeros(5, 2, 8, 6)).shape == (5, 2, 8, 6)
    with pytest.raises(REFUSALS):
        net(torch.zeros(2, 3, 8, 6))


@pytest.mark.parametrize("op", ["elemwise_add", "_mul", "_maximum"])
def test_states_of_a_known_batch_fix_it(op, tmp_path):
    """MXNet adds equal shapes alone: one row with two states is an error, not two rows."""
    nodes = data(node("_zeros", "state", shape=(2, 3)), node(op, "y", [(0, 0), (1, 0)]))
    with pytest.warns(ConversionWarning, match="'y'"):
        net = module(tmp_path, nodes, {"data": (2, 3)})
    assert net(torch.ones(2, 3)).shape == (2, 3)
    with pytest.raises(REFUSALS):
        net(torch.ones(1, 3))
