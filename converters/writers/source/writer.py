"""The PyTorch source of a graph: a class with named submodules, the forward that one would write by hand, build() at the end.

Names and strings from a file reach the source as checked identifiers, as repr(), or as comments without line ends: nothing in a
file becomes code. `to_module` runs the very text that `write_source` returns, so that what runs is what is read.
"""

from __future__ import annotations

import ast
import functools
import keyword
import linecache
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx.checker
import onnx.defs
import onnx_ir as ir
from numpy.typing import NDArray

from converters import packages
from converters.errors import ConversionError, UnsupportedError, printable
from converters.graph.functions import expand, has_body, rewrite
from converters.graph.names import mend_names
from converters.graph.provenance import SOURCE, source_of
from converters.writers.source.code import Code, comment, literal, nesting_limit
from converters.writers.source.dtypes import STORED_DTYPES, UnwritableError, torch_dtype
from converters.writers.source.modules import Modules
from converters.writers.source.node import Node, writes
from converters.writers.source.sizes import fold

if TYPE_CHECKING:
    import torch

__all__ = ["state_dict", "to_module", "write_source"]


def write_source(model: ir.Model, *, class_name: str = "Model") -> str:
    """The whole text of a Python file that defines the model in PyTorch.

    Its `build()` gives the module, which loads `state_dict(model)` strictly. Raises UnsupportedError for all nodes that have no
    PyTorch source, each by name; ValueError for a class name that is no identifier.
    """
    return Writer(model, class_name).text()


def state_dict(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """The tensors that the module of `write_source` loads, by key, in the graph's order."""
    return source_and_state(model)[1]


def source_and_state(model: ir.Model) -> tuple[str, dict[str, ir.TensorProtocol]]:
    """`write_source` and `state_dict` in one walk over the graph."""
    writer = Writer(model, "Model")
    text = writer.text()
    tensors = {
        key: value.const_value
        for key, value in model.graph.initializers.items()
        if key in writer.modules.used and value.const_value is not None
    }
    return text, tensors


def to_module(model: ir.Model) -> torch.nn.Module:
    """The model as a torch.nn.Module in eval mode, weights loaded: inputs in graph order, one tensor or a tuple in output order.

    The module owns its weights (a mapped file is only read). Raises UnsupportedError as `write_source` does.
    """
    packages.require("torch")
    from torch.overrides import TorchFunctionMode

    class Uninitialised(TorchFunctionMode):
        """Skips the random numbers of constructors: all weights are loaded right after."""

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(function, "__name__", "") in ("uniform_", "normal_", "trunc_normal_"):
                return args[0] if args else kwargs["tensor"]
            return function(*args, **(kwargs or {}))

    writer = Writer(model, "Model")
    text = writer.text()
    file = f"<model {id(model):x}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    namespace: dict[str, Any] = {"__name__": "converters.written"}
    exec(compile(text, file, "exec"), namespace)  # noqa: S102  our own text, in which nothing of the file is code
    try:
        with Uninitialised():
            module: torch.nn.Module = namespace["build"]()
    except (ValueError, RuntimeError, TypeError) as problem:
        raise ConversionError(f"torch refuses one of the layers: {printable(problem, 300)}") from problem
    weights = {key: to_tensor(value.const_value) for key, value in writer.modules.used.items() if value.const_value is not None}
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as problem:
        raise ConversionError(f"the weights don't fit their layers: {printable(' '.join(str(problem).split()), 300)}") from problem
    return module.eval()


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


class Writer:
    """One graph on its way to source."""

    def __init__(self, model: ir.Model, class_name: str) -> None:
        if not class_name.isascii() or not class_name.isidentifier() or keyword.iskeyword(class_name):
            raise ValueError(f"{class_name!r} is no name for a Python class")
        self.model = _expand(model)
        self.class_name = class_name
        self.opset = int(self.model.graph.opset_imports.get("", self.model.graph.opset_imports.get("ai.onnx", 1)))
        self.functions: set[str] = set()
        self.modules = Modules(self.model.graph.initializers)
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._constant_lines: list[str] = []
        self._known: dict[ir.Value, NDArray[Any]] = {}
        self._tensors: dict[ir.Value, str] = {}
        self._text = ""
        self._inner_names: set[str] = set()
        self.code = Code({"self", "torch", "nn", "F", "math", "build", class_name} | set(all_functions()) | set(keyword.kwlist))
        self._arguments = self._read_inputs()

    # -- what values are ---------------------------------------------------------------------------------------------

    def is_parameter(self, value: ir.Value) -> bool:
        """Whether the value is an entry of the state_dict."""
        return value.name is not None and self.model.graph.initializers.get(value.name) is value

    def known(self, value: ir.Value) -> NDArray[Any] | None:
        """The value where it is a constant, or (dtype object) integers that the forward has as Python numbers."""
        if value in self._known:
            return self._known[value]
        if value.const_value is not None and value.is_initializer() and not self.is_parameter(value):  # of a subgraph
            return value.const_value.numpy()
        if self.is_parameter(value) and value.const_value is not None and value not in self.model.graph.inputs:
            return value.const_value.numpy() if value.const_value.size <= 4096 else None
        return None

    def tensor(self, value: ir.Value) -> str:
        """The value as an expression of a tensor."""
        if value in self._tensors:
            return self._tensors[value]
        if self.is_parameter(value):
            return self.modules.tensor(str(value.name))
        if value.const_value is not None and value.is_initializer():
            return self.constant(value.const_value.numpy())
        if value in self._known:
            known = self._known[value]
            if known.dtype == object:
                return self.code.let(f"torch.tensor({literal(known)}, dtype=torch.int64, device={self.device()})")
            return self.constant(known)
        raise UnwritableError(f"input {printable(value.name)!r} is computed by nothing")

    def constant(self, array: NDArray[Any]) -> str:
        """A constant as a buffer that is no part of the state_dict, so that it follows the model from device to device."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            taken = self.modules.top_names | set(self._constants.values())
            name = next(n for n in (f"constant{i or ''}" for i in range(len(taken) + 1)) if n not in taken)
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

    def device(self) -> str:
        """The expression of the device that the model runs on."""
        return f"{self._arguments[0]}.device" if self._arguments else '"cpu"'

    def comment(self, node: ir.Node) -> str:
        """Where the node comes from, for the end of its line."""
        source = source_of(node)
        return comment(source)

    # -- the file ----------------------------------------------------------------------------------------------------

    def text(self) -> str:
        if not self._text:
            self._write_nodes()
            try:
                results = [self.tensor(value) for value in self.model.graph.outputs]
                self._text = self._file(self.code.lines(results, self._arguments))
            except UnwritableError as problem:
                raise UnsupportedError(f"the model has no PyTorch source: {problem}") from problem
        return self._text

    def _read_inputs(self) -> list[str]:
        inputs = [v for v in self.model.graph.inputs if v.name not in self.model.graph.initializers]
        names = mend_names(str(value.name) for value in inputs)
        arguments = []
        for value in inputs:
            name = names[str(value.name)]
            while name in self.code.reserved:
                name += "_"
            token = self.code.variable(name, "argument")
            self._tensors[value] = token
            arguments.append(token)
        return arguments

    def branch(self, name: str, graph: ir.Graph) -> list[str]:
        """A subgraph as the lines of a function inside the forward; its inputs are the function's arguments."""
        if self.code.depth >= nesting_limit():
            raise UnwritableError("subgraphs in subgraphs in subgraphs")
        outer = self.code
        names = {outer.variables[int(token[1:-1])].hint for token in self._arguments}
        self.code = Code(outer.reserved | names, outer)
        try:
            arguments = []
            for number, value in enumerate(graph.inputs):
                token = self.code.variable(f"{'inner_' * self.code.depth}input{number}", "argument")
                self._tensors[value] = token
                arguments.append(token)
            self._write_nodes(graph)
            results = [self.tensor(value) for value in graph.outputs]
            lines = self.code.lines(results, arguments, unpack_always=True)
            header = ", ".join(self.code.variables[int(token[1:-1])].hint for token in arguments)
        finally:
            self.code = outer
        return [f"def {name}({header}):", *(f"    {line}" for line in lines)]

    def inline(self, graph: ir.Graph) -> list[str]:
        """A subgraph without inputs, written where we are; the expressions of its outputs."""
        self._write_nodes(graph)
        return [self.tensor(value) for value in graph.outputs]

    def function_name(self, base: str) -> str:
        """A name for a function inside the forward that nothing else has."""
        name = next(n for n in (f"{base}{i or ''}" for i in range(len(self._inner_names) + 1)) if n not in self._inner_names)
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
                    self._tensors[value] = self.code.variable()
        if problems and graph is not None:
            raise UnwritableError("; ".join(problems[:5]))
        if problems:
            shown = problems[:20] + ([f"... and {len(problems) - 20} more"] if len(problems) > 20 else [])
            raise UnsupportedError("\n".join([*shown, "these operators have no PyTorch source here"]))

    def _write_node(self, node: ir.Node) -> None:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            self._known[node.outputs[0]] = _constant_value(node)
            return
        folded = fold(node, self.known, self.opset) if node.domain in ("", "ai.onnx") else None
        if folded is not None:
            self._known.update(zip(node.outputs, folded, strict=True))
            return
        key = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
        if key not in writes:
            raise UnwritableError("no PyTorch source is registered for this operator")
        if node.domain in ("", "ai.onnx"):
            _check_attributes(node, self.opset)
        clumsy = _check_types(node)
        written = self._widened(node, key, clumsy) if clumsy else writes[key](Node(self, node))
        if isinstance(written, np.ndarray):
            self._known[node.outputs[0]] = written
        elif isinstance(written, str):
            tokens = self.code.unpack(written, len(node.outputs), comment=self._comment_for(node, written))
            self._tensors.update(zip(node.outputs, tokens, strict=True))
        else:
            for value, expression in zip(node.outputs, written, strict=False):
                self._tensors[value] = self.code.let(expression, comment=self._comment_for(node, expression))

    def _widened(self, node: ir.Node, key: str, clumsy: set[ir.Value]) -> list[str]:
        """An operator on unsigned integers that PyTorch only stores: computed in int64, which wraps round at the same places."""
        before = {value: self.tensor(value) for value in clumsy}
        self._tensors.update((value, f"{text}.long()") for value, text in before.items())
        try:
            written = writes[key](Node(self, node))
        finally:
            self._tensors.update(before)
        if not isinstance(written, str | list):
            raise UnwritableError("of unsigned integers")
        parts = [written] if isinstance(written, str) else written
        if isinstance(written, str) and len(node.outputs) > 1:
            parts = self.code.unpack(written, len(node.outputs))
        return [
            f"({part}).to({torch_dtype(value.dtype)})" if value.dtype in _CLUMSY else part
            for value, part in zip(node.outputs, parts, strict=False)
        ]

    def _comment_for(self, node: ir.Node, text: str) -> str:
        """The comment of a line that doesn't name its layer itself."""
        return "" if text.startswith(("self.", "self[")) else self.comment(node)

    def _file(self, forward: list[str]) -> str:
        name = comment(self.model.graph.name or "")
        what = f"The model {name!r} in PyTorch" if name and re.fullmatch(r"[\w .:/+-]+", name) else "The model in PyTorch"
        head = [
            f'"""{what}.',
            "",
            "The weights are in the .pth file that was written beside this one, NAME.pth beside NAME.py:",
            "",
            "    model = build()",
            '    model.load_state_dict(torch.load("NAME.pth", weights_only=True))',
            "",
            f"Inputs: {self._signature(self.model.graph.inputs)}. Outputs: {self._signature(self.model.graph.outputs)}.",
            '"""',
            "",
        ]
        functions, imports = extract_functions(self.functions)
        body = "\n".join(forward) + functions
        head += ["import math", ""] if re.search(r"\bmath\.", body) or "math" in imports else []
        head += ["import torch"]
        head += ["import torch.nn.functional as F"] if re.search(r"\bF\.", body) else []
        head += ["from torch import nn", "", ""]
        base = "nn.Module"
        if self.modules.indexed:
            base = "Block"
            head += [_BLOCK, "", ""]
        if functions:
            head += [functions, "", ""]
        parameters = ", ".join(["self", *(self.code.variables[int(a[1:-1])].hint for a in self._arguments)])
        init = self.modules.lines() + self._constant_lines
        text = [*head, f"class {self.class_name}({base}):"]
        if init:
            text += ["    def __init__(self):", "        super().__init__()", *(f"        {line}" for line in init), ""]
        text += [f"    def forward({parameters}):", *(f"        {line}" for line in forward), "", ""]
        text += [
            "def build():",
            '    """The model in eval mode, its weights not yet loaded."""',
            f"    return {self.class_name}().eval()",
            "",
        ]
        return "\n".join(text)

    def _signature(self, values: Any) -> str:
        described = []
        for value in values:
            if value.name in self.model.graph.initializers:
                continue
            dims = (
                "of any shape"
                if value.shape is None
                else "(" + ", ".join(str(d) if isinstance(d, int) else str(d.value or "?") for d in value.shape) + ")"
            )
            described.append(f"{value.name} {dims}")
        text = re.sub(r"[^\w .,;:/()?+-]", "_", "; ".join(described)[:1000], flags=re.ASCII)
        return text or "none"


_BLOCK = '''\
class Block(nn.Module):
    """A module whose parts may have numbers for names: self[4][0]."""

    def __getitem__(self, name):
        return self._modules[str(name)]

    def __setitem__(self, name, module):
        self._modules[str(name)] = module'''


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


def _describe(node: ir.Node) -> str:
    source = source_of(node)
    if source:
        return f"{printable(source)}: ONNX operator {printable(node.op_type)}"
    name = node.name or (node.outputs[0].name if node.outputs else "")
    return f"operator '{printable(name)}' ({printable(node.op_type)})"


def _check_attributes(node: ir.Node, opset: int) -> None:
    """Raises UnwritableError for attributes that the operator doesn't have, or not of that type: they would be written as they are."""
    try:
        known = onnx.defs.get_schema(node.op_type, opset).attributes
    except onnx.defs.SchemaError:
        return
    for name, attribute in node.attributes.items():
        if name not in known:
            raise UnwritableError(f"it has no attribute {printable(name)!r} in opset {opset}")
        kind: Any = known[name].type  # an enumeration, of pybind's kind or of Python's
        if not attribute.is_ref() and int(attribute.type) != int(getattr(kind, "value", kind)):
            raise UnwritableError(f"attribute {printable(name)!r} is of the type {attribute.type.name}")


_CLUMSY = frozenset({ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64})
_MOVES = frozenset(
    "Cast CastLike BitCast Identity Reshape Flatten Squeeze Unsqueeze Transpose Expand QuantizeLinear DequantizeLinear Shape Size".split()
)
_WIDENED = frozenset(
    "Add Sub Mul Equal BitwiseAnd BitwiseOr BitwiseXor BitwiseNot Where Concat Gather Slice Split Tile Pad Div Mod Less LessOrEqual "
    "Greater GreaterOrEqual Max Min Sum BitShift Pow TopK ArgMax ArgMin Clip Sign ReduceSum ReduceMax ReduceMin ReduceProd".split()
)
_ALIKE_IN_64_BITS = frozenset("Add Sub Mul Equal BitwiseAnd BitwiseOr BitwiseXor BitwiseNot Where Concat Gather Slice Split Tile".split())
"""Operators for which the sign of a 64-bit integer doesn't matter."""


def _check_types(node: ir.Node) -> set[ir.Value]:
    """The inputs of types that PyTorch only stores. Raises UnwritableError where nothing can be computed of the node's types."""
    clumsy = set()
    for value in [*node.inputs, *node.outputs]:
        if value is None or value.type is None:
            continue
        if not isinstance(value.type, ir.TensorType):
            raise UnwritableError("sequences, optional and sparse values have no PyTorch source here")
        if value.dtype in (None, ir.DataType.UNDEFINED):
            continue
        if value.dtype in STORED_DTYPES and node.op_type in ("Cast", "CastLike", "Identity"):
            continue
        torch_dtype(value.dtype)
        if value.dtype in _CLUMSY and node.op_type not in _MOVES:
            if node.op_type not in (_ALIKE_IN_64_BITS if value.dtype == ir.DataType.UINT64 else _WIDENED):
                raise UnwritableError(f"PyTorch has no arithmetic for elements of type {value.dtype.name}")
            clumsy.add(value)
    return {value for value in clumsy if value in node.inputs}


def _constant_value(node: ir.Node) -> NDArray[Any]:
    for name, attribute in node.attributes.items():
        if name == "value":
            array: NDArray[Any] = attribute.as_tensor().numpy()
            return array
        if name in ("value_int", "value_ints"):
            return np.array(attribute.value, np.int64)
        if name in ("value_float", "value_floats"):
            return np.array(attribute.value, np.float32)
    raise UnwritableError("only constants of numbers have PyTorch source")


# -- functions that the file carries along ---------------------------------------------------------------------------


@functools.cache
def all_functions() -> Mapping[str, tuple[str, frozenset[str], int]]:
    """Every function of prelude: its text, the others that it calls, its position."""
    texts: dict[str, str] = {}
    trees: dict[str, ast.AST] = {}
    for file in sorted((Path(__file__).parent / "prelude").glob("*.py")):
        text = file.read_text("utf-8")
        for item in ast.parse(text).body:
            if isinstance(item, ast.FunctionDef | ast.ClassDef):
                source = ast.get_source_segment(text, item)
                texts[item.name] = source or ""
                trees[item.name] = item
    result = {}
    for position, (name, tree) in enumerate(trees.items()):
        called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & texts.keys() - {name}
        result[name] = (texts[name], frozenset(called), position)
    return result


def extract_functions(names: set[str]) -> tuple[str, set[str]]:
    """The text of these functions and of all that they call, and the modules that they need."""
    known = all_functions()
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(known[name][1])
    ordered = sorted(needed, key=lambda name: known[name][2])
    text = "\n\n\n".join(known[name][0] for name in ordered)
    return text, ({"math"} if "math." in text else set())
