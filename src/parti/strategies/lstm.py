"""A recurrent policy: a long short-term memory that decides one choice after the other.

Zoph and Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017, Section 3.1: at
each step the controller reads an embedding of what it decided last, and a softmax of its own for
each choice gives the next decision. The cell is that of Hochreiter and Schmidhuber, Neural
Computation 1997, with the forget gates of Gers et al., Neural Computation 2000. Gradients are
those of backpropagation through time, exact, in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from parti.core.choice import Choice
from parti.strategies.policies import Array, Roll, Step, Steps, Trace, grouped, softmax

__all__ = ["LstmPolicy"]

START = "start"
"""Name of the embedding that is read before the first decision."""


@dataclass(frozen=True, slots=True)
class _Record:
    """What one layer did; arrays are (time, row, ...), cells and outputs begin with time -1."""

    inputs: Array
    gates: Array
    cells: Array
    outputs: Array


class LstmPolicy:
    """A distribution over walks in which each decision may depend on all before it.

    Args:
        seed: of the initial parameters.
        layers: how many layers of memory cells.
        hidden: how many cells in each, and the width of the embeddings.
        initial: parameters are drawn uniformly from -initial to initial.
    """

    def __init__(
        self, seed: int, *, layers: int = 2, hidden: int = 35, initial: float = 0.08
    ) -> None:
        self.parameters: dict[str, Array] = {}
        self._seed = seed
        self._layers = layers
        self._hidden = hidden
        self._initial = initial
        self._names: dict[Choice, str] = {}

    def roll(self) -> Roll:
        """Begin an architecture."""
        return _LstmRoll(self, [self.cells(layer) for layer in range(self._layers)])

    def trace(self, batch: Sequence[Steps]) -> Trace:
        """Follow known architectures, all at once; shorter ones are padded at their ends."""
        shape = (max(map(len, batch), default=0), len(batch), self._hidden)
        groups = grouped(batch)
        inputs = np.zeros(shape)
        inputs[:1] = self.start()
        for group in groups:
            on = group.times + 1 < shape[0]
            read = self.embedding(group.choice)[group.places[on]]
            inputs[group.times[on] + 1, group.rows[on]] = read
        records = []
        outputs = inputs
        for layer in range(self._layers):
            records.append(self._forward(layer, outputs))
            outputs = records[-1].outputs[1:]
        logits = []
        for group in groups:
            weights, bias = self.head(group.choice)
            logits.append(outputs[group.times, group.rows] @ weights + bias)

        def backward(by_logits: Sequence[Array]) -> dict[str, Array]:
            gradient: dict[str, Array] = {}
            by_outputs = np.zeros(shape)
            for group, slopes in zip(groups, by_logits, strict=True):
                name = self._name(group.choice)
                gradient[f"weights {name}"] = outputs[group.times, group.rows].T @ slopes
                gradient[f"bias {name}"] = slopes.sum(axis=0)
                by_outputs[group.times, group.rows] = slopes @ self.head(group.choice)[0].T
            for layer in reversed(range(self._layers)):
                by_outputs = self._backward(layer, records[layer], by_outputs, gradient)
            gradient[START] = by_outputs[:1].sum(axis=(0, 1))
            for group in groups:
                on = group.times + 1 < shape[0]
                slope = np.zeros_like(self.embedding(group.choice))
                read = by_outputs[group.times[on] + 1, group.rows[on]]
                np.add.at(slope, group.places[on], read)
                gradient[f"embedding {self._name(group.choice)}"] = slope
            return gradient

        return Trace(batch, groups, logits, backward)

    # --- parameters: each follows from the seed and its own name ---

    def start(self) -> Array:
        """What is read before the first decision, shape (hidden,)."""
        return self._parameter(START, self._hidden)

    def embedding(self, choice: Choice) -> Array:
        """What is read after a decision, shape (options, hidden)."""
        return self._parameter(f"embedding {self._name(choice)}", len(choice.options), self._hidden)

    def head(self, choice: Choice) -> tuple[Array, Array]:
        """The softmax of a choice: weights of shape (hidden, options), bias (options,)."""
        name, options = self._name(choice), len(choice.options)
        return (
            self._parameter(f"weights {name}", self._hidden, options),
            self._parameter(f"bias {name}", options),
        )

    def cells(self, layer: int) -> tuple[Array, Array, Array]:
        """A layer: weights of inputs and of own outputs, (hidden, 4 hidden); bias, (4 hidden,).

        The four parts are input, forget and output gate, and candidate.
        """
        four = 4 * self._hidden
        return (
            self._parameter(f"inputs {layer}", self._hidden, four),
            self._parameter(f"outputs {layer}", self._hidden, four),
            self._parameter(f"bias {layer}", four),
        )

    def _name(self, choice: Choice) -> str:
        if choice not in self._names:
            self._names[choice] = f"{choice.name}: {choice.options!r}"
        return self._names[choice]

    def _parameter(self, name: str, *shape: int) -> Array:
        if name not in self.parameters:
            digest = blake2b(f"{self._seed}/{name}".encode(), digest_size=8).digest()
            draw = np.random.default_rng(int.from_bytes(digest, "big"))
            self.parameters[name] = draw.uniform(-self._initial, self._initial, shape)
        return self.parameters[name]

    # --- a layer over time ---

    def _forward(self, layer: int, inputs: Array) -> _Record:
        times, rows, size = inputs.shape
        by_inputs, by_outputs, bias = self.cells(layer)
        read = inputs @ by_inputs + bias
        gates = np.empty((times, rows, 4 * size))
        cells, outputs = np.zeros((2, times + 1, rows, size))
        for time in range(times):
            gates[time], cells[time + 1], outputs[time + 1] = _tick(
                read[time] + outputs[time] @ by_outputs, cells[time]
            )
        return _Record(inputs, gates, cells, outputs)

    def _backward(
        self, layer: int, record: _Record, slopes: Array, gradient: dict[str, Array]
    ) -> Array:
        """Add the layer's gradients; take those by its outputs to those by its inputs."""
        times, rows, size = record.inputs.shape
        by_inputs, by_outputs, _ = self.cells(layer)
        before = np.empty((times, rows, 4 * size))
        by_output, by_cell = np.zeros((2, rows, size))
        for time in reversed(range(times)):
            by_output = by_output + slopes[time]
            into, keep, out, candidate = np.split(record.gates[time], 4, axis=1)
            bent = np.tanh(record.cells[time + 1])
            by_cell = by_cell + by_output * out * (1 - bent**2)
            before[time] = np.concatenate(
                (
                    by_cell * candidate * into * (1 - into),
                    by_cell * record.cells[time] * keep * (1 - keep),
                    by_output * bent * out * (1 - out),
                    by_cell * into * (1 - candidate**2),
                ),
                axis=1,
            )
            by_output = before[time] @ by_outputs.T
            by_cell = by_cell * keep
        flat = before.reshape(-1, 4 * size)
        gradient[f"inputs {layer}"] = record.inputs.reshape(-1, size).T @ flat
        gradient[f"outputs {layer}"] = record.outputs[:-1].reshape(-1, size).T @ flat
        gradient[f"bias {layer}"] = flat.sum(axis=0)
        return before @ by_inputs.T


class _LstmRoll:
    """The state of one walk: what was read last, and each layer's cells and outputs."""

    def __init__(self, policy: LstmPolicy, layers: Sequence[tuple[Array, Array, Array]]) -> None:
        self._policy = policy
        self._layers = layers
        self._read = policy.start()
        self._state = [np.zeros((2, *self._read.shape)) for _ in layers]

    def probabilities(self, choice: Choice) -> Array:
        outputs = self._read
        for (by_inputs, by_outputs, bias), state in zip(self._layers, self._state, strict=True):
            before = outputs @ by_inputs + bias + state[1] @ by_outputs
            _, state[0], state[1] = _tick(before, state[0])
            outputs = state[1]
        weights, bias = self._policy.head(choice)
        return softmax(outputs @ weights + bias)

    def take(self, step: Step) -> None:
        self._read = self._policy.embedding(step.choice)[step.place]


def _tick(before: Array, cells: Array) -> tuple[Array, Array, Array]:
    """One step of a layer: gates, new cells and new outputs, from the sums before the gates."""
    size = cells.shape[-1]
    gates = np.empty_like(before)
    np.tanh(before[..., 3 * size :], out=gates[..., 3 * size :])
    # The logistic function through tanh, which cannot overflow.
    gates[..., : 3 * size] = 0.5 + 0.5 * np.tanh(0.5 * before[..., : 3 * size])
    into, keep, out = (gates[..., part * size : (part + 1) * size] for part in range(3))
    cells = keep * cells + into * gates[..., 3 * size :]
    return gates, cells, out * np.tanh(cells)
