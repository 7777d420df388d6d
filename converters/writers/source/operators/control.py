"""Source of branches and loops: subgraphs become functions inside the forward."""

from __future__ import annotations

from converters.writers.source.node import Node, writes


def _as_results(n: Node, call: str) -> str:
    """One result is taken out of its tuple."""
    return f"({call})[0]" if n.outputs == 1 else call


@writes("If", sequences=True)
def if_(n: Node) -> list[str]:
    """One of two inner functions; the branch itself where the condition is a constant."""
    known = n.static(0)
    if known is not None:
        return n.inline("then_branch" if bool(known.reshape(-1)[0]) else "else_branch")
    yes, yes_lines = n.branch("then_branch", "then_branch")
    no, no_lines = n.branch("else_branch", "else_branch")
    return n.call([*yes_lines, *no_lines], _as_results(n, f"{yes}() if {n[0]} else {no}()"))


@writes("Loop", sequences=True)
def loop(n: Node) -> list[str]:
    """A while loop around an inner function; what each turn gives is stacked."""
    body, lines = n.branch("body", "body")
    count = n.scalar(0) if n.has(0) else "None"
    condition = n[1] if n.has(1) else "True"
    states = [n[index] for index in range(2, len(n))]
    empty = _stacked_of_no_turn(n, len(states))
    call = f"{n.function('loop')}({body}, {count}, {condition}, [{', '.join(states)}], {n.device}{empty})"
    return n.call(lines, _as_results(n, call))


def _stacked_of_no_turn(n: Node, states: int) -> str:
    """What a loop stacks where it doesn't turn at all: nothing, of the shape and type that a turn would give; open sizes are 0."""
    if n.outputs == states:
        return ""
    count, condition = n.static(0) if n.has(0) else None, n.static(1) if n.has(1) else True
    if count is not None and int(count.reshape(-1)[0]) > 0 and condition is not None and bool(condition):
        return ""
    parts = []
    for value in n.branch_outputs("body")[1 + states :]:
        if value.dtype is None or value.shape is None:
            return ""
        shape = [0, *(d if isinstance(d, int) else 0 for d in value.shape)]
        parts.append(f"torch.empty({shape}, dtype={n.torch_dtype(value.dtype)}, device={n.device})")
    return f", [{', '.join(parts)}]"


@writes("Scan")
def scan(n: Node) -> list[str]:
    """An inner function over the slices of tensors; what each turn gives is stacked."""
    if n.opset < 9:
        raise n.error("Scan of opset 8")
    body, lines = n.branch("body", "body")
    count = int(n.attr("num_scan_inputs"))
    states = [n[index] for index in range(len(n) - count)]
    inputs = [n[index] for index in range(len(n) - count, len(n))]
    made = n.outputs - len(states)
    options = [
        list(n.attr(name, [0] * size))
        for name, size in (
            ("scan_input_axes", count),
            ("scan_input_directions", count),
            ("scan_output_axes", made),
            ("scan_output_directions", made),
        )
    ]
    call = f"{n.function('scan')}({body}, [{', '.join(states)}], [{', '.join(inputs)}], {', '.join(map(str, options))})"
    return n.call(lines, _as_results(n, call))
