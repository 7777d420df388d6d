"""The tables are complete: every layer that can be lowered has a row, or a case with its fork's own answer."""

import re

from converters.readers.caffe import lowers
from tests.conformance import cases
from tests.readers.caffe import (
    test_detection_layers,
    test_fork_layers,
    test_neurons,
    test_recurrent_layers,
    test_shape_layers,
    test_spatial_layers,
    test_weighted_layers,
)
from tests.readers.caffe.layer_case import LayerCase

TABLES = (
    test_detection_layers,
    test_fork_layers,
    test_neurons,
    test_recurrent_layers,
    test_shape_layers,
    test_spatial_layers,
    test_weighted_layers,
)


def test_every_layer_has_a_row() -> None:
    rows = {
        case.type
        for module in TABLES
        for table in vars(module).values()
        if isinstance(table, list)
        for case in table
        if isinstance(case, LayerCase)
    }
    forks = (case.read("net.prototxt").decode() for case in cases("caffe", "caffe-forks"))
    answered = {name for text in forks for name in re.findall(r'type\s*:\s*"(\w+)"', text)}
    named = {  # tests of their own: layers of Python, and one that takes nothing
        "ContinuationIndicator",
        "Python:SSH.layers.proposal_layer.ProposalLayer",
        "Python:layers.text_proposal_layer.ProposalLayer",
        "Python:rpn.proposal_layer.ProposalLayer",
        "Python:spatial_dropout.SpatialDropoutLayer",
    }
    computed = {name for name in lowers if lowers.facts(name).role in ("layer", "loss")}
    assert computed - rows - answered == named


def test_every_layer_says_what_it_does() -> None:
    for name in lowers:
        assert lowers.summary(name).rstrip(".)").strip(), name
        assert "Source: " in str(lowers[name].__doc__), name
