"""A net's layers -> graph: blobs by name, in-place chains, inputs, outputs, what is left out.

Sources: caffe/src/caffe/net.cpp (Init, AppendTop, AppendBottom), caffe/src/caffe/util/insert_splits.cpp.
"""

from __future__ import annotations

import functools
import inspect
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir

from converters.errors import ConversionError, about, printable, unsupported
from converters.files import StrPath
from converters.graph.builder import GraphBuilder, SymbolicDimensionError, with_open_batch
from converters.graph.names import Names, mend_names
from converters.graph.provenance import ORIGINAL_NAME
from converters.options import LoadOptions
from converters.readers.caffe.data import DataShapes, gives, is_data, scales_its_data
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.layers import normalization
from converters.readers.caffe.layers.meanings import tell_meanings
from converters.readers.caffe.prototxt import Net, check_fields, read_net
from converters.readers.caffe.registry import REASONS, Lowering, lowers
from converters.readers.caffe.weights import LayerWeights, Weights

__all__ = ["load", "lowers"]

ELEMENT_LIMIT = 2**31 - 1
"""Caffe's own limit on the elements of a blob (Blob::Reshape)."""


def load(paths: Sequence[StrPath], options: LoadOptions) -> ir.Model:
    """The graph of a prototxt and its weights. Raises ConversionError."""
    if not 1 <= len(paths) <= 2:
        raise ConversionError(f"a Caffe net is a prototxt and a weights file; {len(paths)} files were given")
    options.no_key(paths[0], "a Caffe net")
    net = read_net(paths[0], options.define)
    tell_meanings(net)
    net.layers = _needed(net.layers, options.outputs)
    _check_types(net, options)
    weights = Weights(net.layers, paths[1] if len(paths) > 1 else None, fillers=options.fillers, shapes_only=options.problems is not None)
    weights.check_match(net.excluded)
    with about(net.file):
        try:
            return with_open_batch(lambda closed: _NetLowering(net, weights, options, closed).model())
        except MemoryError as problem:
            raise ConversionError("the net is too large for this machine's memory") from problem


def _needed(layers: list[Layer], outputs: Sequence[str]) -> list[Layer]:
    """The layers that blobs of these names come from; all of them where one is no blob's name."""
    wanted = set(outputs)
    if not wanted or not wanted <= {top for layer in layers for top in layer.tops}:
        return layers
    kept = []
    for layer in reversed(layers):
        if wanted.intersection(layer.tops):
            kept.append(layer)
            wanted.update(layer.bottoms)
    return kept[::-1]


def _check_types(net: Net, options: LoadOptions) -> None:
    """All unknown types at once; then the fields of known layers. A layer that takes nothing may give what the inputs describe.

    Where a look at the net is wanted, nothing is raised: the walk comes by every layer.
    """
    inputs = options.shapes
    if options.problems is not None:
        return
    unknown = [
        layer
        for layer in net.layers
        if layer.type not in lowers
        and layer.type not in gives
        and (layer.bottoms or not (layer.type.startswith("Python:") or any(top in inputs for top in ("", *layer.tops))))
    ]
    if unknown:
        data = next((layer for layer in unknown if not layer.bottoms and layer.tops), None)
        more = [f"{name}: {REASONS[name]}." for name in dict.fromkeys(layer.type for layer in unknown) if name in REASONS]
        if data is not None:
            top = printable(data.tops[0])
            more += [f"if '{printable(data.name)}' is a data layer, say what it gives with --input {top}=1x3x224x224"]
        raise unsupported((layer.source for layer in unknown), "caffe", *more)
    for layer in net.layers:
        if lowers.is_built_in(layer.type) and lowers.facts(layer.type).is_computed:
            check_fields(layer)


class _NetLowering:
    """One pass over the layers, with a graph builder."""

    def __init__(self, net: Net, weights: Weights, options: LoadOptions, closed: SymbolicDimensionError | None) -> None:
        self.net, self.weights = net, weights
        self.g = GraphBuilder(net.name or "net", symbolic_batch=True, closed=closed, dynamic=options.dynamic)
        self.blobs: dict[str, ir.Value] = {}
        self.memory: dict[str, str] = {}  # the blob whose memory a blob's present version lies in
        self.sharers: dict[str, list[str]] = {}  # that blob -> those that lie in its memory beside it
        self.awaited: Counter[str] = Counter(name for layer in net.layers for name in layer.bottoms)
        self.used: Counter[str] = Counter()  # consumers of a blob's present version
        self.losses_use: set[str] = set()  # blobs whose only consumers were losses that are left out
        self.sunk: Counter[str] = Counter()  # sinks that take a blob
        self.written: set[str] = set()  # blobs that layers write into files while Caffe runs
        self.left_out: dict[str, Layer] = {}  # tops of losses that are left out
        self.declared: set[str] = set()  # inputs that the net itself declares, not a data layer
        self.inputs: list[str] = []
        self.data = DataShapes(net, weights, options.shapes)
        self.problems = options.problems
        self.lost: set[str] = set()  # tops of layers that can't be lowered, where a look at the rest is wanted
        self.dropped: list[Layer] = []
        weights.start()
        self.paths = _module_paths(net)

    def model(self) -> ir.Model:
        for index, layer in enumerate(self.net.layers):
            layer.weights = LayerWeights(self.weights, layer, index)
        absorbed = self._absorb_scales()
        for index, layer in enumerate(self.net.layers):
            if index in absorbed:
                continue
            with self.g.at(layer.source, self.paths[index]):
                if self.problems is None:
                    self._layer(layer)
                else:
                    self._look_at(layer, self.problems)
        self._outputs()
        if self.dropped:
            names = ", ".join(f"{printable(layer.name)} ({layer.type})" for layer in self.dropped[:8])
            self.g.warn(f"{printable(self.net.file, 400)}: left out, they need labels: {names}")
        for note in self.weights.notes():
            self.g.warn(note)
        dummies = [layer.tops[0] for layer in self.net.layers if layer.type == "DummyData" and layer.tops]
        if not self.inputs and dummies:
            top = printable(dummies[0])
            self.g.warn(f"the net takes no input, its data are DummyData's constants; --input {top}=1x3x224x224 makes one of '{top}'")
        return self.g.finish()

    # -- layers ------------------------------------------------------------------------------------------------------------

    def _layer(self, layer: Layer) -> None:
        if is_data(layer):
            for top, shape in self.data.tops(layer):
                self._check_new(layer, top, len(layer.tops))
                if shape is not None:
                    self._declare(layer, top, shape)
            return
        facts = lowers.facts(layer.type)
        bottoms = [self._bottom(layer, name) for name in layer.bottoms]
        if facts.role == "training" or (facts.role == "loss" and (None in bottoms or not self._is_computed(layer))):
            self._leave_out(layer)
        elif facts.role in ("sink", "writer"):
            self._sink(layer, facts.role == "writer")
        else:
            self._compute(layer, [b for b in bottoms if b is not None])

    def _look_at(self, layer: Layer, problems: list[ConversionError]) -> None:
        """Lowers a layer where that can be done; else notes why, and goes on without what comes from it."""
        if self.lost.intersection(layer.bottoms):
            self.lost.update(layer.tops)
            return
        try:
            if layer.type not in lowers and not is_data(layer):
                raise unsupported([layer.source], "")
            if lowers.is_built_in(layer.type) and lowers.facts(layer.type).is_computed:
                check_fields(layer)
            self._layer(layer)
        except ConversionError as problem:
            if str(problem) not in map(str, problems):
                problems.append(problem)
            self.lost.update(layer.tops)

    def _sink(self, layer: Layer, writes: bool) -> None:
        """What sinks alone take may be an output all the same."""
        self._consume(layer)
        for name in layer.bottoms:
            self.sunk[name] += 1
            if writes:
                self.written.add(name)

    def _compute(self, layer: Layer, bottoms: Sequence[ir.Value]) -> None:
        """Lowers a layer, and gives its tops their values."""
        values = self._lower(layer, bottoms)
        self._check_in_place(layer)
        if layer.scale is not None and layer.scale.tops[0] not in layer.tops:
            self._check_new(layer.scale, layer.scale.tops[0], 1)
        facts = lowers.facts(layer.type)
        if facts.role == "loss":
            self.losses_use.update(name for name in layer.bottoms if not self.used[name] and name not in self.declared)
        self._consume(layer)
        tops = layer.tops if layer.scale is None else layer.scale.tops
        for top, value in zip(tops, values, strict=False):
            if layer.type == "DummyData" and top in self.data.given:  # what stands for data is an input where that is asked for
                self._declare(layer, top, self.data.given[top])
                continue
            self._check_size(layer, top, value)
            if top in layer.bottoms:
                self._overwrite(top, value)
            elif facts.view and len(bottoms) == 1 and (len(tops) == 1 or value is bottoms[0]):
                owner = self.memory.get(layer.bottoms[0], layer.bottoms[0])
                self.memory[top] = owner
                self.sharers.setdefault(owner, []).append(top)
            self.g.bind(value, top)
            self.blobs[top] = value
            self.used[top] = 0
            self.losses_use.discard(top)
        for named in (layer, layer.scale):
            if named is not None and values:
                self.g.alias(values[0], named.name)  # what a layer in place gives has no other name once the next one wrote over it

    def _overwrite(self, top: str, value: ir.Value) -> None:
        """What lies in the same memory as a top that is computed in place changes with it, as in Caffe."""
        if value is self.blobs[top]:
            return
        owner = self.memory.get(top, top)
        for name in (owner, *self.sharers.get(owner, ())):
            if name == top or name not in self.blobs or (self.used[name] and not self.awaited[name]):
                continue
            message = f"works in place on memory that '{printable(name)}' shares and is read from later: it changes too, as in Caffe"
            self.g.warn(message)
            self.blobs[name] = self.g.reshape(value, self.g.extents(self.blobs[name]))

    def _lower(self, layer: Layer, bottoms: Sequence[ir.Value]) -> list[ir.Value]:
        lowering = lowers[layer.type]
        _check_bottoms(layer, lowering, len(bottoms))
        result = lowering(self.g, layer, *bottoms)
        values = [result] if isinstance(result, ir.Value) else list(result or ())
        if len(values) < len(layer.tops):
            raise layer.error(f"has {len(layer.tops)} tops, but gives {len(values)}")
        return values

    def _bottom(self, layer: Layer, name: str) -> ir.Value | None:
        """A bottom's value; None for a top of a loss that is left out, or of a data layer that only losses may use."""
        if name in self.blobs:
            return self.blobs[name]
        if name in self.left_out:
            if lowers.facts(layer.type).role != "layer":
                return None
            maker = self.left_out[name]
            raise layer.error(f"its bottom '{printable(name)}' comes from {maker.name} ({maker.type}), which is left out")
        if name in self.data.pending:
            if lowers.facts(layer.type).role != "layer":
                return None
            return self._pending(layer, name)
        raise self._no_bottom(layer, name)

    def _pending(self, layer: Layer, name: str) -> ir.Value:
        """A top of a data layer becomes an input: the layer is the first to need it."""
        maker, shape = self.data.resolve(name, layer)
        with self.g.at(maker.source, ""):
            self._input(maker, name, shape)
            if name == maker.tops[0] and scales_its_data(maker):
                what = f"apply it to what goes into '{printable(name)}'"
                self.g.warn(f"its transform_param (scale, mean) isn't part of the converted net: {what}")
        return self.blobs[name]

    def _no_bottom(self, layer: Layer, name: str) -> ConversionError:
        """Why a blob isn't there."""
        later = next((other for other in self.net.layers if name in other.tops), None)
        if later is not None:
            place = f"line {later.line}" if later.line else "below"
            return layer.error(
                f"its bottom '{printable(name)}' is produced only later, by {printable(later.name)} ({place}); is there a cycle?"
            )
        out = next((other for other in self.net.excluded if name in other.tops), None)
        if out is not None:
            place = f"{printable(out.name)} ({out.type}, line {out.line})"
            return layer.error(f"its bottom '{printable(name)}' is produced only by {place}, which its rules leave out in phase TEST")
        return layer.error(f"its bottom '{printable(name)}' is produced by no layer")

    def _is_computed(self, layer: Layer) -> bool:
        """A loss is computed where all that it takes is there without a data set: Caffe gives it as an output of the net."""
        least, most = _arity(lowers[layer.type])
        return least <= len(layer.bottoms) <= most and len(layer.tops) <= lowers.facts(layer.type).tops

    def _leave_out(self, layer: Layer) -> None:
        self.dropped.append(layer)
        for name in layer.bottoms:
            if name in self.blobs and name not in self.declared and not self.used[name]:
                self.losses_use.add(name)
        self._consume(layer)
        for top in layer.tops:
            self.left_out[top] = layer

    def _consume(self, layer: Layer) -> None:
        for name in layer.bottoms:
            if not lowers.facts(layer.type).takes_labels:
                self.losses_use.discard(name)
            self.used[name] += 1
            self.awaited[name] -= 1

    def _check_in_place(self, layer: Layer) -> None:
        for position, top in enumerate(layer.tops):
            self._check_new(layer, top, position)
            if top in layer.bottoms:
                if self.used[top] or layer.bottoms.count(top) > 1:
                    raise layer.error(f"works in place on '{printable(top)}', which another layer uses too; Caffe refuses that")
                in_place_is_right = lowers.facts(layer.type).in_place
                if in_place_is_right is False:
                    raise layer.error("Caffe doesn't allow it to work in place; give its top a name of its own")
                if in_place_is_right is None and lowers.is_built_in(layer.type):
                    self.g.warn("in place, where Caffe overwrites what it still reads; converted as if it were not in place")

    def _check_new(self, layer: Layer, top: str, position: int) -> None:
        in_place = position < len(layer.bottoms) and layer.bottoms[position] == top
        taken = top in self.blobs or top in self.left_out or (top in self.data.pending and self.data.pending[top] is not layer)
        if (taken and not in_place) or layer.tops.count(top) > 1:
            raise layer.error(f"its top '{printable(top)}' is produced by another layer already")

    def _check_size(self, layer: Layer, top: str, value: ir.Value) -> None:
        dims = [] if value.shape is None else [d for d in value.shape if isinstance(d, int)]
        if any(d < 1 for d in dims):
            raise layer.error(f"its top '{printable(top)}' would have shape {self.g.shape(value)}")
        if math.prod(dims) > ELEMENT_LIMIT:
            raise layer.error(f"its top '{printable(top)}' would have {math.prod(dims)} elements; Caffe allows {ELEMENT_LIMIT}")

    # -- inputs and outputs ------------------------------------------------------------------------------------------------

    def _declare(self, layer: Layer, top: str, shape: Sequence[int | str]) -> None:
        self.declared.add(top)
        self._input(layer, top, shape)

    def _input(self, layer: Layer, top: str, shape: Sequence[int | str]) -> None:
        for dim in shape:
            if isinstance(dim, int) and dim < 1:
                raise layer.error(f"the shape {tuple(shape)} of '{printable(top)}' has a dimension below 1")
        count = math.prod(d for d in shape if isinstance(d, int))
        if count > ELEMENT_LIMIT:
            raise layer.error(f"the shape {tuple(shape)} of '{printable(top)}' has {count} elements; Caffe allows {ELEMENT_LIMIT}")
        self.blobs[top] = self.g.input(top, list(shape))
        self.inputs.append(top)
        self.used[top] = 0

    def _outputs(self) -> None:
        """What no layer consumes, in Caffe's order (by name); of losses left out, what only they consumed; of sinks too."""
        sunk = {name for name in self.blobs if 0 < self.used[name] == self.sunk[name] and name not in self.inputs}
        names = sorted(name for name in self.blobs if not self.used[name] or name in self.losses_use or name in sunk & self.written)
        if not any(name not in self.inputs for name in names):
            names = sorted({*names, *sunk})
        if not names:
            raise ConversionError("the net has no output: every blob is consumed by a layer")
        taken = set(self.inputs)
        for name in names:
            free = name  # an input that nothing uses, or that a layer works on in place, is an output too: under a name of its own
            while free in taken:
                free += "_"
            self.g.output(self.blobs[name], free).metadata_props[ORIGINAL_NAME] = name
            taken.add(free)

    # -- BatchNorm and Scale -----------------------------------------------------------------------------------------------

    def _absorb_scales(self) -> set[int]:
        """Gives each BatchNorm the Scale that follows it and uses it alone; the indices of those Scales."""
        absorbed = set()
        self.consumers: dict[str, list[int]] = {}
        for index, layer in enumerate(self.net.layers):
            for name in dict.fromkeys(layer.bottoms):
                self.consumers.setdefault(name, []).append(index)
        for index, layer in enumerate(self.net.layers):
            layer.scale = None
            if layer.type == "BatchNorm" and len(layer.tops) == 1 and lowers.is_built_in("BatchNorm"):
                follower = self._follower(index, layer.tops[0])
                if follower is not None and layer.tops == layer.bottoms != self.net.layers[follower].tops:
                    continue  # the memory keeps what comes between the two, and other blobs may share it
                if follower is not None and normalization.can_absorb(layer, self.net.layers[follower]):
                    layer.scale = self.net.layers[follower]
                    absorbed.add(follower)
        return absorbed

    def _follower(self, index: int, top: str) -> int | None:
        """The Scale that alone consumes this version of a blob."""
        consumers = self.consumers.get(top, [])
        after = bisect_right(consumers, index)
        if after == len(consumers):
            return None
        found = consumers[after]
        later = self.net.layers[found]
        if later.type != "Scale" or later.bottoms != [top] or len(later.tops) != 1:
            return None
        in_place = later.tops == [top]  # what follows then uses another version
        return found if in_place or after + 1 == len(consumers) else None


def _check_bottoms(layer: Layer, lowering: Lowering, count: int) -> None:
    """Raises ConversionError where a layer has more or fewer bottoms than its lowering takes."""
    least, most = _arity(lowering)
    if not least <= count <= most:
        wanted = str(least) if least == most else f"at least {least}" if most == math.inf else f"{least} to {int(most)}"
        raise layer.error(f"has {count} bottoms; it takes {wanted}")


@functools.cache
def _arity(lowering: Lowering) -> tuple[int, float]:
    parameters = list(inspect.signature(lowering).parameters.values())[2:]
    least = sum(p.kind == p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in parameters)
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return least, math.inf
    return least, sum(p.kind == p.POSITIONAL_OR_KEYWORD for p in parameters)


def _module_paths(net: Net) -> list[str]:
    """A module path for each layer: its name as an identifier; a name that occurs again gets a number."""
    dotted = sorted({top for layer in net.layers for top in layer.tops if "." in top})

    def is_prefix(path: str) -> bool:
        """Whether a parameter of the module could have a blob's name: the blob `conv.weight` beside the layer `conv`."""
        at = bisect_left(dotted, f"{path}.")
        return at < len(dotted) and dotted[at].startswith(f"{path}.")

    seen: Counter[str] = Counter()
    keys = []
    for layer in net.layers:
        name = layer.name or layer.type.lower()
        keys.append(f"{name}#{seen[name] + 1}" if seen[name] else name)
        seen[name] += 1
    paths = mend_names(keys)
    names = Names(paths.values())
    return [names.free(f"{paths[key]}_") if is_prefix(paths[key]) else paths[key] for key in keys]
