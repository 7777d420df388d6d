"""What an MXNet symbol says of its net, operator by operator."""

from __future__ import annotations

from converters.files import StrPath, map_file
from converters.graph.outline import Outline, Port, Row
from converters.options import DEFAULTS, LoadOptions
from converters.readers.mxnet.symbol import OLDEST, Symbol, read_symbol

_HOOK = "@lowers(TYPE), from converters.readers.mxnet import lowers, in a file that --plugin FILE.py --trust names"
_PARAMETERS = tuple(
    f"_{word}" for word in ("weight bias gamma beta moving_mean moving_var running_mean running_var alpha parameters".split())
)
_MAGIC = b"\x12\x01\0\0\0\0\0\0"


def outline(path: StrPath, options: LoadOptions = DEFAULTS) -> Outline:
    """The operators of a symbol in MXNet's order; of a .params file nothing but that it has no graph. Raises ConversionError."""
    if bytes(map_file(path)[:8]) == _MAGIC:
        return Outline()
    symbol = read_symbol(path)
    found = Outline(rows=_rows(symbol), hook=_HOOK, graph=True)
    version = symbol.version
    found.version = f"{version // 10000}.{version // 100 % 100}.{version % 100}" if version > OLDEST else "0.8 or older"
    users = {number for node in symbol.order for number, _ in node.inputs}
    for node in symbol.order:
        is_input = node.is_variable and node.index in users and not node.name.endswith((*_PARAMETERS, "_label"))
        if is_input and "__lr_mult__" not in node.attributes:
            found.inputs[node.name] = Port()
    for number, _ in symbol.heads:
        found.outputs[symbol.nodes[number].name] = Port()
    try:
        from converters.readers.mxnet.signature import lowers
    except ImportError as problem:
        found.notes.append(f"whether each operator can be converted isn't known: {problem}")
    else:
        found.unsupported = [node.source for node in symbol.order if not node.is_variable and node.op not in lowers]
    return found


def _rows(symbol: Symbol) -> list[Row]:
    return [
        Row(
            node.name,
            node.op,
            source=str(node.source),
            takes=[symbol.nodes[number].name for number, _ in node.inputs if not _is_parameter(symbol, number)],
            gives=[node.name],
        )
        for node in symbol.order
        if not node.is_variable
    ]


def _is_parameter(symbol: Symbol, number: int) -> bool:
    return symbol.nodes[number].is_variable and symbol.nodes[number].name.endswith(_PARAMETERS)
