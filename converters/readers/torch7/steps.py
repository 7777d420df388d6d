"""What recurrent modules carry from one step to the next, and the loops over time that a net's steps become."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from converters.graph.builder import Dim, GraphBuilder
from converters.readers.torch7.references import Reference, Tensors, leaves, mapped

Shape = Sequence[Dim]


class Memory:
    """The states of the recurrent modules that run in one sequence, by the id of their object; empty before the first step."""

    def __init__(self, first: Callable[[Shape, ir.Value, str], ir.Value]) -> None:
        self._first = first
        self.states: dict[int, Tensors] = {}
        self.names: dict[int, list[str]] = {}
        """What the tensors of states that began as zeros are called."""

    def get(self, key: int) -> Tensors | None:
        """The state that the last step left, None before the first one."""
        return self.states.get(key)

    def zeros(self, key: int, shapes: Sequence[Shape], like: ir.Value, role: str) -> Tensors:
        """The state that the last step left, before the first one zeros. like: a value of the step, whose type they have."""
        if key not in self.states:
            self.names[key] = [f"{role}_{position}" for position, _ in enumerate(shapes, 1)]
            firsts = zip(shapes, self.names[key], strict=True)
            self.states[key] = [Reference(self._first(shape, like, name)) for shape, name in firsts]
        return self.states[key]


class Loop(Memory):
    """Steps that run in the body of a loop over the first axis of tensors.

    items: one entry of each, which the body starts from. backward: from the last to the first.
    """

    def __init__(self, g: GraphBuilder, sequences: Tensors, first: Callable[[Shape, ir.Value, str], ir.Value], backward: bool) -> None:
        super().__init__(first)
        self.g = g
        self.backward = backward
        self._sequences = list(leaves(sequences))
        self._given = [sequence.get() for sequence in self._sequences]
        self._body: ir.Graph | None = None
        self._begun: list[tuple[int, int, ir.Value, ir.Value]] = []
        self._entries: list[Reference] = []
        self._x = sequences
        self._out: Tensors | None = None

    def enter(self, body: ir.Graph) -> None:
        """Starts the body, inside `g.body()`."""
        self._body = body
        for value in self._given:
            entry = self.g.body_input(f"{value.name}_step", value, self.g.shape(value)[1:])
            self._entries.append(Reference(entry))
        self._starts = [entry.get() for entry in self._entries]

    @property
    def items(self) -> Tensors:
        """The step's input."""
        made = {id(sequence): entry for sequence, entry in zip(self._sequences, self._entries, strict=True)}
        return mapped(self._x, lambda sequence: made[id(sequence)])

    def resume(self, key: int, state: Tensors) -> None:
        """Goes on from a state that steps before the loop have left."""
        position = 0

        def entry(reference: Reference) -> Reference:
            nonlocal position
            start = reference.get()
            value = self.g.body_input(f"{start.name}_before", start, self.g.shape(start))
            self._begun.append((key, position, start, value))
            position += 1
            return Reference(value)

        self.states[key] = mapped(state, entry)

    def zeros(self, key: int, shapes: Sequence[Shape], like: ir.Value, role: str) -> Tensors:
        if key in self.states:
            return self.states[key]
        made: list[Tensors] = []
        self.names[key] = [f"{role}_{position}" for position, _ in enumerate(shapes, 1)]
        for position, (shape, name) in enumerate(zip(shapes, self.names[key], strict=True)):
            with self.g.outside():
                start = self._first(shape, like, name)
            value = self.g.body_input(f"{start.name}_before", start, shape)
            self._begun.append((key, position, start, value))
            made.append(Reference(value))
        self.states[key] = made
        return made

    def leave(self, out: Tensors) -> None:
        """Ends the step with its output; still inside `g.body()`."""
        self._out = out

    def finish(self) -> Tensors:
        """The outputs of all steps, joined along a new first axis; outside of `g.body()` again. `states` are then the last ones."""
        assert self._body is not None and self._out is not None
        after = {key: [state.get() for state in leaves_in_order(self.states[key])] for key, _, _, _ in self._begun}
        answers = list(leaves_in_order(self._out))
        overwritten = [n for n, (entry, start) in enumerate(zip(self._entries, self._starts, strict=True)) if entry.get() is not start]
        # inputs of a Scan are its states and then the sequences; the body's were made as they came up
        states = [value for _, _, _, value in self._begun]
        self._body.inputs[:] = [*states, *self._starts]
        lasts, joined = self.g.scan(
            self._body,
            [start for _, _, start, _ in self._begun],
            self._given,
            [after[key][position] for key, position, _, _ in self._begun],
            [*(answer.get() for answer in answers), *(self._entries[n].get() for n in overwritten)],
            backward=self.backward,
        )
        for n, value in zip(overwritten, joined[len(answers) :], strict=True):
            self._sequences[n].set(value)
        ends = {(key, position): last for (key, position, _, _), last in zip(self._begun, lasts, strict=True)}
        for key in after:
            position = -1

            def last(reference: Reference, key: int = key) -> Reference:
                nonlocal position
                position += 1
                return Reference(ends[key, position])

            self.states[key] = mapped(self.states[key], last)
        found = {id(answer): value for answer, value in zip(answers, joined, strict=False)}
        return mapped(self._out, lambda answer: Reference(found[id(answer)]))


def leaves_in_order(x: Tensors) -> list[Reference]:
    """The tensors of a nest in the order in which `mapped` meets them."""
    found: list[Reference] = []
    mapped(x, found.append)
    return found


def copied(x: Tensors) -> Tensors:
    """New tensors that hold what these hold now."""
    made: Tensors = mapped(x, lambda tensor: Reference(tensor.get()))
    return made
