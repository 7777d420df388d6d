"""The builder's promises: names given once, shapes known at once, constants apart from parameters, a symbolic batch."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import converters
from converters.errors import ConversionError, Source
from converters.graph.builder import INLINE_LIMIT, WARNINGS, Extent, GraphBuilder, SymbolicDimensionError, with_open_batch
from converters.graph.names import identifier, mend_names
from converters.graph.provenance import BUFFER, PATH, SOURCE

CONV1 = Source("net.prototxt", "layer", "conv1", "Convolution", 12)


@pytest.mark.parametrize(
    "name, mended",
    [
        ("conv1", "conv1"),
        ("conv1/3x3", "conv1_3x3"),
        ("3a", "_3a"),
        ("class", "class_"),
        ("match", "match_"),
        ("forward", "forward_"),
        ("print", "print_"),
        ("", "unnamed"),
        ("каффе", "_____"),
        ("a\nb", "a_b"),
        ("__init__", "m__init__"),
    ],
)
def test_identifier(name, mended):
    assert identifier(name) == mended or (name == "каффе" and identifier(name).isidentifier())
    assert identifier(name).isidentifier()


def test_no_nn_module_attribute_is_an_identifier_of_ours():
    torch = pytest.importorskip("torch")
    assert not [name for name in dir(torch.nn.Module()) if not name.startswith("_") and identifier(name) == name]


def test_mended_names_are_unique_and_plain_ones_keep_theirs():
    names = ["a/b", "a.b", "a_b", "a_b_1", "a/b"]
    mended = mend_names(names)
    assert mended["a_b"] == "a_b" and mended["a_b_1"] == "a_b_1"
    assert len(set(mended.values())) == 4


def test_a_key_is_given_once():
    g = GraphBuilder("net")
    with g.at(CONV1, "conv1"):
        g.param("weight", np.zeros((1, 1, 1, 1), np.float32))
        with pytest.raises(ValueError, match=r"conv1\.weight"):
            g.param("weight", np.zeros(1, np.float32))


def test_shapes_are_known_when_emitted_and_provenance_is_kept():
    g = GraphBuilder("net", symbolic_batch=True)
    x = g.input("data", (2, 3, 8, 8))
    with g.at(CONV1, "conv1"):
        y = g.emit("Conv", x, g.param("weight", np.zeros((4, 3, 3, 3), np.float32)), strides=[2, 2])
    assert g.shape(y) == ("N", 4, 3, 3)
    assert y.producer().metadata_props == {SOURCE: "net.prototxt:12 conv1 (Convolution)", PATH: "conv1"}


def test_unfit_inputs_are_named():
    g = GraphBuilder("net")
    x = g.input("data", (2, 3, 8, 8))
    with g.at(CONV1, "conv1"), pytest.raises(ConversionError, match=r"^net\.prototxt:12: layer 'conv1' \(Convolution\): Conv doesn't fit"):
        g.emit("Conv", x, g.param("weight", np.zeros((4, 2, 3, 3), np.float32)))


def test_small_constants_are_nodes_and_large_ones_buffers():
    g = GraphBuilder("net")
    x = g.input("data", (1, INLINE_LIMIT + 1))
    with g.at(CONV1, "conv1"):
        y = g.emit("Add", g.emit("Mul", x, 2.0), np.ones((1, INLINE_LIMIT + 1), np.float32))
    g.output(y, "out")
    model = g.finish()
    assert list(model.graph.initializers) == ["conv1.constant"]
    assert model.graph.initializers["conv1.constant"].metadata_props[BUFFER] == "1"
    assert [n.op_type for n in model.graph] == ["Constant", "Mul", "Add"]


def test_outputs_have_the_names_asked_for():
    g = GraphBuilder("net")
    x = g.input("data", (1, 2))
    inner = g.emit("Relu", x, name="prob")
    last = g.emit("Abs", inner)
    g.output(last, "prob")  # another value held the name
    g.output(x, "copy")  # an input
    g.output(last, "again")  # an output already
    model = g.finish()
    assert [v.name for v in model.graph.outputs] == ["prob", "copy", "again"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_initializers_come_in_the_order_of_use_and_unused_ones_go():
    g = GraphBuilder("net")
    x = g.input("data", (2,))
    late, early, unused = (g.param(role, np.ones(2, np.float32), path="m") for role in ("late", "early", "unused"))
    g.output(g.emit("Mul", g.emit("Add", x, early), late), "y")
    g.emit("Add", x, unused)
    assert list(g.finish().graph.initializers) == ["m.early", "m.late"]


def test_a_lowering_that_needs_the_batch_gets_it_fixed():
    def make(closed):
        g = GraphBuilder("net", symbolic_batch=True, closed=closed)
        x = g.input("data", (2, 3))
        g.output(g.emit("Reshape", x, [g.fixed(x)[0] * 3]), "y")
        return g.finish()

    model = with_open_batch(make)
    assert list(model.graph.inputs[0].shape) == [2, 3]
    assert model.meta[WARNINGS] == (
        "needs the size of data, which is Nx3, so the converted net takes inputs of the given first size (2) alone",
    )
    with pytest.raises(SymbolicDimensionError):
        make(None)


def test_inputs_of_another_length_get_a_symbol_of_their_own():
    g = GraphBuilder("net", symbolic_batch=True)
    assert g.shape(g.input("data", (2, 3))) == ("N", 3)
    assert g.shape(g.input("rois", (7, 5))) == ("N_rois", 5)
    assert g.shape(g.input("more", (2, 5))) == ("N", 5)


def test_a_number_takes_the_type_of_the_values_not_of_the_condition():
    g = GraphBuilder("net")
    x = g.input("data", (2,), np.float64)
    y = g.emit("Where", g.emit("Less", x, 0.0), 1.5, x)
    assert y.dtype == ir.DataType.DOUBLE
    assert g.emit("Where", g.emit("Less", x, 0.0), 1.5, 2.5).dtype == ir.DataType.FLOAT


def test_a_size_that_no_batch_tells_is_a_conversion_error():
    def make(closed):
        g = GraphBuilder("net", symbolic_batch=True, closed=closed)
        return g.fixed(g.emit("NonZero", g.input("data", (2, 3))))

    with pytest.raises(ConversionError, match="known only when the net runs"):
        with_open_batch(make)


# -- sizes that are known when the net runs --------------------------------------------------------------------------------


def sized(dims, build):
    """The graph of one input x of these dimensions."""
    g = GraphBuilder("net", dynamic={("x", axis): label for axis, label in enumerate(dims) if isinstance(label, str)})
    x = g.input("x", [5 if isinstance(d, str) else d for d in dims])
    g.output(build(g, x), "y")
    return g.finish()


def answers(model, x):
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, {"x": x})[0]


@pytest.mark.parametrize(
    "build, expect",
    [
        (lambda g, x: g.reshape(x, [*g.extents(x, 0, 2), None]), lambda x: x.reshape(*x.shape[:2], -1)),
        (lambda g, x: g.reshape(x, [g.shape(x)[0], None, *g.extents(x, 3)]), lambda x: x.reshape(len(x), -1, x.shape[3])),
        (lambda g, x: g.reshape(x, [None, *g.extents(x, 2)]), lambda x: x.reshape(-1, *x.shape[2:])),
        (lambda g, x: g.reshape(x, [g.shape(x)[0], None]), lambda x: x.reshape(len(x), -1)),
        (lambda g, x: g.flatten(x, 2), lambda x: x.reshape(-1, x.shape[2] * x.shape[3])),
        (
            lambda g, x: g.emit("Expand", np.float32(1), g.sizes([2, Extent(x, 3, -1, 2, 3, 1), Extent(x, 1)])),
            lambda x: np.ones((2, (x.shape[3] - 1) // 2 * 3 + 1, x.shape[1])),
        ),
    ],
)
def test_sizes_are_those_of_the_run(build, expect):
    model = sized(["N", 3, "H", "W"], build)
    for shape in ((5, 3, 5, 5), (2, 3, 4, 6), (1, 3, 8, 7)):
        x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        np.testing.assert_array_equal(answers(model, x), expect(x))


def test_a_pinned_size_is_the_only_one():
    model = sized(["N", 3, 4, 6], lambda g, x: g.emit("Relu", g.pin(x)))
    for value, axis in itertools.product(model.graph.inputs, (2, 3)):
        value.shape[axis] = None
    assert answers(model, np.ones((2, 3, 4, 6), np.float32)).shape == (2, 3, 4, 6)
    with pytest.raises(Exception, match=r"[Ss]plit"):
        answers(model, np.ones((2, 3, 6, 4), np.float32))


def test_a_file_of_known_size_asks_for_none(tmp_path):
    model = sized(["N", 3, 4, 6], lambda g, x: g.reshape(g.pin(x), [g.shape(x)[0], None, *g.extents(x, 3)]))
    converters.save(model, tmp_path / "net.onnx")
    assert [n.op_type for n in onnx.load(tmp_path / "net.onnx").graph.node] == ["Constant", "Reshape"]
    assert {"Split", "Shape"} <= {n.op_type for n in model.graph}, "the graph itself follows other sizes"
    model = sized(["N", 3, 4, "W"], lambda g, x: g.reshape(x, [g.shape(x)[0], None, *g.extents(x, 3)]))
    converters.save(model, tmp_path / "open.onnx")
    assert "Shape" in {n.op_type for n in onnx.load(tmp_path / "open.onnx").graph.node}


def running_sum(g: GraphBuilder, x: ir.Value, *, backward: bool = False) -> tuple[ir.Value, ir.Value]:
    """x: (T, N, C). The sums up to each step, times 2, and the last sum."""
    with g.body() as body:
        with g.outside():
            start = g.zeros(g.shape(x)[1:], x)
        before = g.body_input("before", start, g.shape(start))
        item = g.body_input("item", x, g.shape(x)[1:])
        after = g.emit("Add", before, item)
        doubled = g.emit("Mul", after, 2.0)
        g.emit("Neg", item)  # nobody uses it
    (last,), (sums,) = g.scan(body, [start], [x], [after], [doubled], backward=backward)
    return sums, last


@pytest.mark.parametrize("backward", [False, True])
def test_a_loop_over_the_first_axis(backward):
    model = sized(["T", "N", 3], lambda g, x: g.emit("Add", *running_sum(g, x, backward=backward)))
    (scan,) = [node for node in model.graph if node.op_type == "Scan"]
    assert [node.op_type for node in scan.attributes["body"].as_graph() if node.op_type != "Constant"] == ["Add", "Mul"]
    for shape in ((4, 2, 3), (1, 5, 3)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        sums = np.cumsum(x[::-1], 0)[::-1] if backward else np.cumsum(x, 0)
        np.testing.assert_allclose(answers(model, x), 2 * sums + x.sum(0), rtol=1e-5, atol=1e-5)


def test_a_loop_that_nobody_uses_goes_with_what_it_alone_uses():
    def build(g: GraphBuilder, x: ir.Value) -> ir.Value:
        with g.body() as body:
            item = g.body_input("item", x, g.shape(x)[1:])
            answer = g.emit("Mul", item, g.param("weight", np.ones(3, np.float32)))
        g.scan(body, [], [x], [], [answer])
        return g.emit("Relu", x)

    model = sized(["T", "N", 3], build)
    assert [node.op_type for node in model.graph] == ["Relu"] and not model.graph.initializers
