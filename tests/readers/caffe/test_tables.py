"""The tables are complete: every layer that can be lowered has a row."""

from converters.readers.caffe import lowers
from tests.readers.caffe import test_neurons, test_recurrent_layers, test_shape_layers, test_spatial_layers, test_weighted_layers
from tests.readers.caffe.layer_case import LayerCase

TABLES = (test_neurons, test_recurrent_layers, test_shape_layers, test_spatial_layers, test_weighted_layers)


def test_every_layer_has_a_row() -> None:
    rows = {
        case.type
        for module in TABLES
        for table in vars(module).values()
        if isinstance(table, list)
        for case in table
        if isinstance(case, LayerCase)
    }
    computed = {name for name in lowers if lowers.facts(name).role in ("layer", "loss")}
    assert computed - rows - {"SpatialDropout"} == set()


def test_every_layer_says_what_it_does() -> None:
    for name in lowers:
        assert lowers.summary(name).rstrip(".)").strip(), name
        assert "Source: " in str(lowers[name].__doc__), name
