"""The PyTorch source of a graph: a class with named submodules, the forward that one would write by hand, build() at the end.

Names and strings from a file reach the source as checked identifiers, as repr(), or as comments without line ends: nothing in a
file becomes code. `to_module` runs the very text that `write_source` returns, so that what runs is what is read.
"""

from __future__ import annotations

import keyword
import linecache
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx.checker
import onnx_ir as ir
from numpy.typing import NDArray

from converters import packages
from converters.errors import ConversionError, UnsupportedError, printable
from converters.graph.functions import expand, has_body, rewrite
from converters.graph.names import mend_names
from converters.graph.patterns.algebra import Pattern
from converters.graph.patterns.found import find_patterns
from converters.graph.provenance import SOURCE, origin_of, path_of, source_of
from converters.graph.recurrent.constants import weights_alone
from converters.graph.recurrent.modules import RecurrentModule, recurrent_modules
from converters.writers.source import blocks as repeated
from converters.writers.source import sequential
from converters.writers.source.checks import STORED_UNSIGNED, check_attributes, check_types, constant_value
from converters.writers.source.code import TOKEN, Body, Origin, comment, literal
from converters.writers.source.dtypes import UnwritableError, array_of, held, torch_dtype
from converters.writers.source.file import RESERVED, ModuleText, all_functions, class_name_of, file_text
from converters.writers.source.inplace import work_in_place
from converters.writers.source.modules import Modules
from converters.writers.source.node import Node, writes
from converters.writers.source.sizes import fold

if TYPE_CHECKING:
    import torch
    from torch.overrides import TorchFunctionMode

__all__ = ["state_dict", "to_module", "write_source"]


def write_source(model: ir.Model, *, class_name: str | None = None, weights: str = "NAME.pth", blocks: bool = False) -> str:
    """The whole text of a Python file that defines the model in PyTorch.

    Its `build()` gives the module, which loads `state_dict(model)` strictly. class_name: the graph's name in CamelCase by default.
    weights: the name of the .pth file beside it. blocks: what repeats becomes classes. Raises
    UnsupportedError for all nodes that have no PyTorch source, each by name;
    ValueError for a class name that is no identifier.
    """
    return Writer(model, class_name, weights, blocks=blocks).text()


def state_dict(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """The tensors that the module of `write_source` loads, by key, in the graph's order."""
    return source_and_state(model).tensors


class Written(NamedTuple):
    """A source with its weights. names: the graph's own names of the tensors, by key, where it is made of blocks."""

    text: str
    tensors: dict[str, ir.TensorProtocol]
    names: dict[str, str]


def source_and_state(model: ir.Model, weights: str = "NAME.pth", *, blocks: bool = False) -> Written:
    """`write_source` and `state_dict` in one walk over the graph."""
    writer = Writer(model, None, weights, blocks=blocks)
    text = writer.text()
    used = {
        key: held(value.const_value)
        for key, value in writer.initializers.items()
        if key in writer.modules.used and value.const_value is not None
    }
    moved = writer.modules.moved
    names = {moved.get(key, key): key for key in used} if blocks else {}
    return Written(text, {moved.get(key, key): tensor for key, tensor in used.items()}, names)


def to_module(model: ir.Model) -> torch.nn.Module:
    """The model as a torch.nn.Module in eval mode, weights loaded: inputs in graph order, one tensor or a tuple in output order.

    The module owns its weights (a mapped file is only read). Raises UnsupportedError as `write_source` does.
    """
    packages.require("torch")
    writer = Writer(model)
    text = writer.text()
    file = f"<model {id(model):x}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    namespace: dict[str, Any] = {"__name__": "converters.written"}
    exec(compile(text, file, "exec"), namespace)  # noqa: S102  our own text, in which nothing of the file is code
    try:
        with uninitialized():
            module: torch.nn.Module = namespace["build"]()
    except (ValueError, RuntimeError, TypeError) as problem:
        raise ConversionError(f"torch refuses one of the layers: {printable(problem, 300)}") from problem
    weights = {key: to_tensor(held(value.const_value)) for key, value in writer.modules.used.items() if value.const_value is not None}
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as problem:
        raise ConversionError(f"the weights don't fit their layers: {printable(' '.join(str(problem).split()), 300)}") from problem
    return module.eval()


def uninitialized() -> TorchFunctionMode:
    """Skips the random numbers of constructors, where all weights are loaded right after."""
    from torch.overrides import TorchFunctionMode

    class Uninitialized(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            random = getattr(function, "__name__", "") in ("uniform_", "normal_", "trunc_normal_")
            if random or getattr(function, "__module__", "") == "torch.nn.init":
                return args[0] if args else kwargs["tensor"]
            return function(*args, **(kwargs or {}))

    return Uninitialized()


def known_operators() -> frozenset[str]:
    """The operators that PyTorch source is written for."""
    return frozenset(writes) | {"Constant"}


def to_tensor(tensor: ir.TensorProtocol) -> torch.Tensor:
    """A torch tensor over the same memory where numpy and torch share the type."""
    import torch

    array = np.ascontiguousarray(tensor.numpy()).reshape(tuple(tensor.shape.numpy()))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        if tensor.dtype == ir.DataType.BFLOAT16:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        return torch.from_numpy(array)


_SIGN = "-0x8000000000000000"
"""The bit that makes the order of int64 out of that of uint64."""


class Writer:
    """One graph on its way to source; see converters.writers.source.node.Forward for what its nodes may ask."""

    def __init__(self, model: ir.Model, class_name: str | None = None, weights: str = "NAME.pth", *, blocks: bool = False) -> None:
        self.blocks = blocks
        self._classes: list[str] = []
        self.model = _expand(model)
        self.origin = origin_of(model)
        self.class_name = class_name_of(self.model.graph.name or "") if class_name is None else class_name
        if not self.class_name.isascii() or not self.class_name.isidentifier() or keyword.iskeyword(self.class_name):
            raise ValueError(f"{class_name!r} is no name for a Python class")
        self.weights = weights
        self.opset = int(self.model.graph.opset_imports.get("", self.model.graph.opset_imports.get("ai.onnx", 1)))
        self.functions: set[str] = set()
        found = recurrent_modules(self.model)
        self.initializers = found.initializers
        self._recurrent = found.modules
        self._patterns = find_patterns(self.model)
        layers = {node for module in found.modules.values() for nodes in module.stacks for node in nodes}
        self._inner = {node for module in found.modules.values() for node in module.inner} | weights_alone(self.model.graph, layers)
        self._inner |= self._patterns.inner.keys()
        self.modules = Modules(self.initializers)
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._constant_lines: list[str] = []
        self._known: dict[ir.Value, NDArray[Any]] = {}
        self._tensors: dict[ir.Value, str] = {}
        self._text = ""
        self._inner_names: set[str] = set()
        self._inner_counts: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self.body = Body(RESERVED | {"layer", self.class_name} | set(all_functions()) | set(keyword.kwlist))
        self._arguments = self._read_inputs()

    # -- what values are ---------------------------------------------------------------------------------------------

    def is_parameter(self, value: ir.Value) -> bool:
        """Whether the value is an entry of the state_dict."""
        return value.name is not None and self.initializers.get(value.name) is value

    def known(self, value: ir.Value) -> NDArray[Any] | None:
        """The value where it is a constant, or (dtype object) integers that the forward has as Python numbers."""
        if value in self._known:
            return self._known[value]
        if value.const_value is not None and value.is_initializer() and not self.is_parameter(value):  # of a subgraph
            return array_of(value.const_value)
        if self.is_parameter(value) and value.const_value is not None and value not in self.model.graph.inputs:
            return array_of(value.const_value) if value.const_value.size <= 4096 else None
        return None

    def tensor(self, value: ir.Value) -> str:
        """The value as an expression of a tensor."""
        if value in self._tensors:
            return self._tensors[value]
        if self.is_parameter(value):
            return self.modules.tensor(str(value.name))
        if value.const_value is not None and value.is_initializer():
            return self.constant(array_of(value.const_value))
        if value in self._known:
            known = self._known[value]
            if known.dtype == object:
                return self.body.assign(f"torch.tensor({literal(known)}, dtype=torch.int64, device={self.device()})")
            return self.constant(known)
        raise UnwritableError(f"input {printable(value.name)!r} is computed by nothing")

    def constant(self, array: NDArray[Any]) -> str:
        """A constant as a buffer that is no part of the state_dict, so that it follows the model from device to device."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            while (name := f"constant{self._counts['constant'] or ''}") in self.modules.top_names:
                self._counts["constant"] += 1
            self._counts["constant"] += 1
            self._constants[key] = name
            dtype = torch_dtype(ir.DataType.from_numpy(array.dtype))
            data = literal(array)
            self._constant_lines.append(f"self.register_buffer({name!r}, torch.tensor({data}, dtype={dtype}), persistent=False)")
            if array.size == 0:
                self._constant_lines[-1] = f"self.register_buffer({name!r}, torch.empty({array.shape}, dtype={dtype}), persistent=False)"
        return f"self.{self._constants[key]}"

    def layer(self, build: str, wanted: Mapping[str, ir.Value], buffers: frozenset[str]) -> str | None:
        """The expression of the torch.nn layer that holds exactly these tensors, if there can be one."""
        return self.modules.layer(build, wanted, buffers)

    def plain_layer(self, build: str, name: str) -> str:
        """The expression of a layer without tensors."""
        return self.modules.plain_layer(build, self.body.origin.path, name)

    def recurrent(self, node: ir.Node) -> RecurrentModule | None:
        """The recurrent module that ends in this node, if torch.nn has one."""
        return self._recurrent.get(node)

    def pattern(self, node: ir.Node) -> Pattern | None:
        """The layer that ends in this node, if it and those before it are parts of one."""
        return self._patterns.ends.get(node)

    def written(self, value: ir.Value, text: str) -> None:
        """The value is this already: what computes it in the graph isn't written."""
        self._tensors[value] = text

    def device(self) -> str:
        """The expression of the device that the model runs on."""
        inputs = [value for value in self.model.graph.inputs if value.name not in self.model.graph.initializers]
        tensors = (token for value, token in zip(inputs, self._arguments, strict=True) if isinstance(value.type, ir.TensorType | None))
        return next((f"{token}.device" for token in tensors), '"cpu"')

    # -- the file ----------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The whole file."""
        if not self._text:
            self._write_nodes()
            try:
                results = [self.tensor(value) for value in self.model.graph.outputs]
                self.body.drop_dead(results)
                work_in_place(self.body, self.modules, results)
                sequential.fold(self.body, self.modules, results)
                if self.blocks:
                    self._classes = repeated.fold(self.body, self.modules, results, {*self.body.reserved, *self._constants.values()})
                self._text = self._file(self.body.lines(results, self._arguments))
            except UnwritableError as problem:
                raise UnsupportedError(f"the model has no PyTorch source: {problem}") from problem
        return self._text

    def _read_inputs(self) -> list[str]:
        inputs = [v for v in self.model.graph.inputs if v.name not in self.model.graph.initializers]
        names = mend_names(str(value.name) for value in inputs)
        arguments = []
        for value in inputs:
            name = names[str(value.name)]
            while name in self.body.reserved:
                name += "_"
            token = self.body.variable(name, "argument")
            self._tensors[value] = token
            arguments.append(token)
        return arguments

    def branch(self, name: str, graph: ir.Graph) -> list[str]:
        """A subgraph as the lines of a function inside the forward; its inputs are the function's arguments."""
        outer = self.body
        names = {outer.variables[int(token[1:-1])].hint for token in self._arguments}
        self.body = Body(outer.reserved | names, outer)
        try:
            arguments = []
            for number, value in enumerate(graph.inputs):
                token = self.body.variable(f"{'inner_' * self.body.depth}input{number}", "argument")
                self._tensors[value] = token
                arguments.append(token)
            self._write_nodes(graph)
            results = [self.tensor(value) for value in graph.outputs]
            self.body.drop_dead(results)
            lines = self.body.lines(results, arguments, unpack_always=True)
            header = ", ".join(self.body.variables[int(token[1:-1])].hint for token in arguments)
        finally:
            self.body = outer
        return [f"def {name}({header}):", *(f"    {line}" for line in lines)]

    def inline(self, graph: ir.Graph) -> list[str]:
        """A subgraph without inputs, written where we are; the expressions of its outputs."""
        self._write_nodes(graph)
        return [self.tensor(value) for value in graph.outputs]

    def function_name(self, base: str) -> str:
        """A name for a function inside the forward that nothing else has."""
        while (name := f"{base}{self._inner_counts[base] or ''}") in self._inner_names:
            self._inner_counts[base] += 1
        self._inner_names.add(name)
        return name

    def _write_nodes(self, graph: ir.Graph | None = None) -> None:
        problems = []
        for node in self.model.graph if graph is None else graph:
            try:
                self._write_node(node)
            except (UnwritableError, ValueError, IndexError, TypeError, KeyError, ArithmeticError) as problem:
                words = (
                    str(problem) if isinstance(problem, UnwritableError) else f"its attributes and inputs don't fit ({printable(problem)})"
                )
                problems.append(f"{_describe(node)}: {words}")
                for value in node.outputs:
                    self._tensors[value] = self.body.variable()
        if problems and graph is not None:
            raise UnwritableError("; ".join(problems[:5]))
        if problems:
            shown = problems[:20] + ([f"... and {len(problems) - 20} more"] if len(problems) > 20 else [])
            raise UnsupportedError("\n".join([*shown, "these operators have no PyTorch source here"]))

    def _write_node(self, node: ir.Node) -> None:
        if node in self._inner or (node.outputs and all(value in self._tensors for value in node.outputs)):
            return
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            self._known[node.outputs[0]] = constant_value(node)
            return
        folded = fold(node, self.known, self.opset) if node.domain in ("", "ai.onnx") else None
        if folded is not None:
            self._known.update(zip(node.outputs, folded, strict=True))
            return
        key = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
        if key not in writes:
            raise UnwritableError("no PyTorch source is registered for this operator")
        if node.domain in ("", "ai.onnx"):
            check_attributes(node, self.opset)
        unsigned = check_types(node, writes.facts(key))
        self.body.origin = Origin(comment(source_of(node)), path_of(node))
        written = self._widened(node, key, unsigned) if unsigned else writes[key](Node(self, node))
        if isinstance(written, np.ndarray):
            self._known[node.outputs[0]] = written
        elif isinstance(written, str) and len(node.outputs) > 1:
            tokens = self.body.unpack(written, [_variable_name(node, value) for value in node.outputs])
            self._tensors.update(zip(node.outputs, tokens, strict=True))
        else:
            for value, expression in zip(node.outputs, [written] if isinstance(written, str) else written, strict=False):
                is_variable = TOKEN.fullmatch(expression) is not None
                self._tensors[value] = (
                    expression if is_variable else self.body.assign(expression, name=_variable_name(node, value), shape=_shape_of(value))
                )

    def _widened(self, node: ir.Node, key: str, unsigned: set[ir.Value]) -> list[str]:
        """An operator on unsigned integers that PyTorch only stores: computed in int64, which wraps round at the same places."""
        before = {value: self.tensor(value) for value in unsigned}
        turned = {
            value for value in [*unsigned, *node.outputs] if value.dtype == ir.DataType.UINT64 and writes.facts(key).unsigned == "orders"
        }
        self._tensors.update(
            (value, f"({text}.long() ^ {_SIGN})" if value in turned else f"{text}.long()") for value, text in before.items()
        )
        try:
            written = writes[key](Node(self, node))
        finally:
            self._tensors.update(before)
        if not isinstance(written, str | list):
            raise UnwritableError("of unsigned integers")
        parts = [written] if isinstance(written, str) else written
        if isinstance(written, str) and len(node.outputs) > 1:
            parts = self.body.unpack(written, [""] * len(node.outputs))
        return [
            f"({f'({part}) ^ {_SIGN}' if value in turned else part}).to({torch_dtype(value.dtype)})"
            if value.dtype in STORED_UNSIGNED
            else part
            for value, part in zip(node.outputs, parts, strict=False)
        ]

    def _file(self, forward: list[str]) -> str:
        inputs = [value for value in self.model.graph.inputs if value.name not in self.model.graph.initializers]
        module = ModuleText(
            name=self.class_name,
            base=self.modules.base(),
            init=self.modules.lines() + self._constant_lines,
            arguments=[self.body.variables[int(token[1:-1])].hint for token in self._arguments],
            outputs=len(self.model.graph.outputs),
            forward=[self.modules.resolve(line) for line in forward],
            classes=self._classes,
        )
        net, outputs = self.model.graph.name or "", self.model.graph.outputs
        return file_text(module, self.functions, net, self.weights, inputs, outputs, self.origin, self.model.metadata_props)


def _expand(model: ir.Model) -> ir.Model:
    """The model with what has no source here in the words of operators that have, where ONNX defines it so; else the model itself."""
    known = known_operators()
    opset = int(model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 1)))
    unknown = {node.op_type for node in model.graph if node.domain in ("", "ai.onnx")} - known
    if not any(has_body(op_type, opset) for op_type in unknown):
        return model
    sources = {str(value.name): source_of(node) for node in model.graph for value in node.outputs}
    try:
        expanded = rewrite(model, lambda proto: expand(proto, known))
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as problem:
        line = str(problem).strip().split("\n", 1)[0]
        where = next(_describe(node) for node in model.graph if node.op_type in unknown)
        raise UnsupportedError(f"{where}: ONNX's own definition of it can't be written out: {printable(line)}") from problem
    source = ""
    for node in reversed(expanded.graph):  # the last node of a body has the operator's own output
        source = next((sources[str(value.name)] for value in node.outputs if sources.get(str(value.name))), source)
        if source:
            node.metadata_props[SOURCE] = source
    return expanded


def _variable_name(node: ir.Node, value: ir.Value) -> str:
    """What the source calls a value: a Caffe blob, a layer; empty for the builder's own names and for what an exporter numbered."""
    name = str(value.name or "").removesuffix("_output_0").replace("/", "_").replace(".", "_").strip("_")
    is_made = re.fullmatch(rf"(.*_)?{re.escape(node.op_type)}(_[0-9]+)?", name) is not None
    is_word = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,29}", name) is not None
    return name if is_word and not is_made and mend_names([name])[name] == name else ""


def _shape_of(value: ir.Value) -> tuple[int | str, ...] | None:
    """Numbers and the names of symbols; None where one dimension is neither."""
    dimensions = [None] if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]
    known = tuple(d for d in dimensions if d is not None)
    return known if len(known) == len(dimensions) else None


def _describe(node: ir.Node) -> str:
    source = source_of(node)
    if source:
        return f"{printable(source)}: ONNX operator {printable(node.op_type)}"
    name = node.name or (node.outputs[0].name if node.outputs else "")
    return f"operator '{printable(name)}' ({printable(node.op_type)})"
