"""Language models and the recurrent layers of programs for text: torch-rnn, neuraltalk2, densecap, CRNN, OpenNMT."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.checkpoint import child_path
from converters.readers.torch7.module import Module, Net, Steps, lowers
from converters.readers.torch7.references import Reference, Tensors, Values


@lowers("nn.LanguageModel", on_tensors=True)
def language_model(net: Net, module: Module, x: Tensors) -> Steps:
    """torch-rnn's of (N, T) tokens, neuraltalk2's of {image codes, (T, N) tokens}, or densecap's of {region codes, (N, T) tokens}: told by
    their fields. Source: torch-rnn/LanguageModel.lua, neuraltalk2/misc/LanguageModel.lua, densecap/LanguageModel.lua.
    """
    if "image_encoder" in module:
        return (yield from _densecap(net, module, x))
    if "net" in module:
        return (yield from _torch_rnn(net, module, x))
    return (yield from _neuraltalk2(net, module, x))


def _torch_rnn(net: Net, module: Module, x: Tensors) -> Steps:
    """Its net, whose Views are sized anew for each input: (N T, ...), and back to (N, T, ...) at the end."""
    inner = net.module(module.module("net"), child_path(module.path, "net"))
    given = module.one_reference(x).get()
    if net.g.rank(given) != 2:
        raise module.error(f"its input must be (N, T) tokens, but has shape {net.g.shape(given)}")
    flat = {id(module.get("view1")), *_ids(module.get("bn_view_in"))}
    back = {id(module.get("view2")), *_ids(module.get("bn_view_out"))}
    return (yield from _with_views(net, inner, x, given, flat, back))


@lowers("nn.TemporalAdapter", on_tensors=True)
def temporal_adapter(net: Net, module: Module, x: Tensors) -> Steps:
    """A module of matrices for each step of (N, T, D), whatever sizes its two Views hold. Source: torch-rnn/TemporalAdapter.lua."""
    given = module.one_reference(x).get()
    if net.g.rank(given) < 3:
        raise module.error(f"its input must be (N, T, D), but has shape {net.g.shape(given)}")
    inner = net.module(module.module("net"), child_path(module.path, "net"))
    return (yield from _with_views(net, inner, x, given, {id(module.get("view_in"))}, {id(module.get("view_out"))}))


def _with_views(net: Net, inner: Module, x: Tensors, given: ir.Value, flat: set[int], back: set[int]) -> Steps:
    """The modules one after the other; those in `flat` make rows of (N, T, ...), those in `back` (N, T, ...) again, as `given` is."""
    g = net.g
    for position, made in enumerate(inner.modules()):
        if id(made) not in flat | back:
            x = yield net.call(inner, made, x, position)
            continue
        value = inner.one_reference(x).get()
        if id(made) in flat:
            value = g.flatten(value, g.rank(value) - 1)
        else:
            value = g.reshape(value, [*g.extents(given, 0, 2), g.shape(value)[-1]])
        x = Reference(value)
    return x


def _densecap(net: Net, module: Module, x: Tensors) -> Steps:
    """Scores (N, T + 2, V + 1) of the words that follow: the region's code is the first word, then START, then the tokens, 0 as NULL."""
    g = net.g
    codes, words = (module.one_reference(item).get() for item in module.table(x)[:2])
    if g.rank(words) != 2:
        raise module.error(f"its tokens must be (N, T), but have shape {g.shape(words)}")
    inner = net.module(module.module("net"), child_path(module.path, "net"))
    parts = inner.modules()
    if len(parts) != 3 or parts[2] is not module.get("rnn"):
        raise module.error("its net must be the encoders, a JoinTable and its rnn")
    start, null = module.integer("START_TOKEN", least=1), module.integer("NULL_TOKEN", least=1)
    given = g.emit("Cast", words, to=int(ir.DataType.INT64))
    given = g.emit("Where", g.emit("Equal", given, 0), np.array(null, np.int64), given)
    begin = g.emit("Expand", np.array(start, np.int64), g.sizes([*g.extents(words, 0, 1), 1]), shape=[g.shape(words)[0], 1])
    rows: Tensors = Reference(g.emit("Concat", begin, given, axis=1))
    vectors = yield net.call(inner, parts[0], [Reference(codes), rows], 0)
    joined = yield net.call(inner, parts[1], vectors, 1)
    rnn = net.module(parts[2], child_path(inner.path, "2"))
    whole = module.one_reference(joined).get()
    return (yield from _with_views(net, rnn, joined, whole, {id(module.get("view_in"))}, {id(module.get("view_out"))}))


def _ids(value: object) -> set[int]:
    return {id(item) for item in value.array()} if isinstance(value, t7.Table) else set()


def _neuraltalk2(net: Net, module: Module, x: Tensors) -> Steps:
    """D + 2 steps of the core: the image, the token START, and the tokens; (D + 2, N, M + 1) log probabilities."""
    g = net.g
    image, tokens = (module.one_reference(item).get() for item in module.table(x)[:2])
    core, table = module.module("core"), module.module("lookup_table")
    layers, size = module.integer("num_layers", least=1), module.integer("rnn_size", least=1)
    words, length = module.integer("vocab_size", least=1), module.integer("seq_length", least=1)
    if g.rank(tokens) != 2 or g.fixed(tokens, 0, 1) != (length,):
        raise module.error(f"its tokens must be ({length}, N), but have shape {g.shape(tokens)}")
    batch = g.shape(image)[0]
    state: list[Tensors] = [Reference(g.zeros([batch, size], image)) for _ in range(2 * layers)]
    start = g.emit("Expand", np.array(words + 1, np.int64), g.sizes([1, *g.extents(image, 0, 1)]), shape=[1, batch])
    given = g.emit("Max", g.emit("Cast", tokens, to=int(ir.DataType.INT64)), 1)  # a 0 is read as 1
    rows = g.emit("Concat", start, given, axis=0)
    outputs: list[ir.Value] = []
    for step in range(length + 2):
        if step == 0:
            item: Tensors = Reference(image)
        else:
            at = g.emit("Gather", rows, g.const(np.array(step - 1, np.int64)), axis=0)
            with net.as_clones():
                item = yield net.call(module, table, Reference(at), "lookup_table")
        with net.as_clones():
            *after, logp = module.table((yield net.call(module, core, [item, *state], "core")))
        state = list(after)
        outputs.append(g.emit("Unsqueeze", module.one_reference(logp).get(), [0]))
    return Reference(g.emit("Concat", *outputs, axis=0))


@lowers("cudnn.BatchBRNN", "cudnn.BatchBRNNReLU", on_tensors=True, time_first=True)
def batch_brnn(net: Net, module: Module, x: Tensors) -> Steps:
    """Its modules for (T, N, D), of which the first view makes (T N, ...) and the second (T, N, ...) again, whatever sizes they hold.
    Source: deepspeech.torch/BatchBRNN.lua.
    """
    g = net.g
    given = module.one_reference(x).get()
    if g.rank(given) != 3:
        raise module.error(f"its input must be (T, N, D), but has shape {g.shape(given)}")
    for position, made in enumerate(module.modules()):
        value = module.one_reference(x).get()
        if made is module.get("view_in"):
            x = Reference(g.flatten(value, 2))
        elif made is module.get("view_out"):
            x = Reference(g.reshape(value, [*g.extents(given, 0, 2), g.shape(value)[-1]]))
        else:
            x = yield net.call(module, made, x, position)
    return x


@lowers("nn.FeatExpander", tables=True)
def feat_expander(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """(N, D) -> (N n, D): each row n times in a row. Source: neuraltalk2/misc/net_utils.lua."""
    count = module.integer("n", least=1)
    if count == 1:
        return x
    spread = g.emit("Tile", g.emit("Unsqueeze", x, [1]), np.array([1, count, 1], np.int64))
    return g.reshape(spread, [None, g.shape(x)[1]])


@lowers("onmt.JoinReplicateTable", tables=True)
def join_replicate_table(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """Tensors joined along dimensionJoin, each repeated along dimensionReplicate up to the longest. Negative dimensions count from the end,
    others are shifted behind a batch where nInputDims says so. Source: OpenNMT/onmt/modules/JoinReplicateTable.lua.
    """
    items = module.tensors(x)
    rank = g.rank(items[0])
    dims = [module.integer(field) for field in ("dimensionReplicate", "dimensionJoin")]
    shift = int(module.integer("nInputDims", rank) == rank - 1)
    along, axis = (n + rank if n < 0 else n + shift - 1 for n in dims)
    if not (0 <= along < rank and 0 <= axis < rank) or any(g.rank(item) != rank for item in items):
        raise module.error(f"dimensions {dims[0]} and {dims[1]} don't fit inputs of shapes {[g.shape(item) for item in items]}")
    counts = [g.fixed(item, along, along + 1)[0] for item in items] if along == 0 else [g.shape(item)[along] for item in items]
    longest = next((n for n, count in enumerate(counts) if count != 1), 0)
    wide = []
    for item, count in zip(items, counts, strict=True):
        if count == 1 and counts[longest] != 1:
            sizes = [g.extents(items[longest] if n == along else item)[n] for n in range(rank)]
            shape = [counts[longest] if n == along else g.shape(item)[n] for n in range(rank)]
            item = g.emit("Expand", item, g.sizes(sizes), shape=shape)
        wide.append(item)
    return g.emit("Concat", *wide, axis=axis) if len(wide) > 1 else wide[0]


# -- CRNN --------------------------------------------------------------------------------------------------------------


@lowers("nn.LstmLayer", on_tensors=True)
def lstm_layer(net: Net, module: Module, x: Tensors) -> Steps:
    """lstmUnit{x, c, h} -> {c, h, y} for each step of a table, from zeros; `reverse` from the last to the first.
    Source: crnn/src/model/LstmLayer.lua.
    """
    g = net.g
    unit = module.module("lstmUnit")
    items = module.table(x)
    size = _hidden(module)
    first = module.one_reference(items[0]).get()
    zeros = g.zeros([g.shape(first)[0], size], first)
    c: Tensors = Reference(zeros)
    h: Tensors = Reference(zeros)
    outputs: list[Tensors] = []
    backward = module.flag("reverse")
    for item in reversed(items) if backward else items:
        with net.as_clones():
            answer = module.table((yield net.call(module, unit, [item, c, h], "lstmUnit")))
        if len(answer) != 3:
            raise module.error(f"its lstmUnit answers {len(answer)} tensors, expected three")
        c, h, y = answer
        outputs.append(y)
    return outputs[::-1] if backward else outputs


def _hidden(module: Module) -> int:
    for name in ("nHidden", "nHiddens", "nOut", "hiddenSize"):
        if name in module:
            return module.integer(name, least=1)
    raise module.error("none of its fields says how many units it has")


@lowers("nn.BiRnnJoin", on_tensors=True)
def bi_rnn_join(net: Net, module: Module, x: Tensors) -> Steps:
    """joinUnit{a, b} for each step of {{a ...}, {b ...}}. Source: crnn/src/model/BiRnnJoin.lua."""
    first, second = (module.table(item) for item in module.table(x)[:2])
    if len(first) != len(second):
        raise module.error(f"its input must be two tables of one length, but they have {len(first)} and {len(second)}")
    outputs: list[Tensors] = []
    for pair in zip(first, second, strict=True):
        with net.as_clones():
            outputs.append((yield net.call(module, module.module("joinUnit"), list(pair), "joinUnit")))
    return outputs
