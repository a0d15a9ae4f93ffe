"""Tensors of a graph in terms with a normal form: equal keys, equal real functions.

Where terms cannot say what a node computes, or it would take too much work, what it writes is known
by the node itself, its attributes and constants, and the terms that it reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from encoders.arithmetic.canonical_terms import TermsTooLarge
from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.term_field import TermField
from encoders.functions.accuracy import Transcendental
from encoders.program import Step, program_of, real_step
from onnx_import.graph import Array, Graph
from refine.pair.pair import Pair
from refine.pair.sameness import content_of, key_of

_LAYER = 1_500_000  # multiply-adds of a node, beyond which it is known by what it reads
_NO_TERMS = (TermsTooLarge, Transcendental, ArithmeticError, TypeError, ValueError)


@dataclass
class Terms:
    """Tensors of a graph in terms, as far as they have been asked for."""

    graph: Graph
    numbers: TermField
    known: dict[str, ObjectArray]
    keys: dict[str, bytes] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)

    def of(self, tensor: str) -> ObjectArray:
        """Its terms, (1, *shape)."""
        todo = [tensor]
        writers = program_of(self.graph).writers
        while todo:
            at = todo[-1]
            if at in self.known:
                todo.pop()
            elif self.graph.is_constant(at):
                self.known[at] = self._constant(self.graph.constants[at])
            else:
                step = writers[at]
                missing = [t for t in step.reads if t not in self.known]
                todo += missing
                if not missing:
                    self.known |= zip(step.writes, self.written(step), strict=True)
        return self.known[tensor]

    def put(self, tensor: str, terms: ObjectArray) -> None:
        """Terms of a tensor from now on: what comes of it is asked for anew."""
        stale = {tensor}
        for step in program_of(self.graph).steps:
            if stale.intersection(step.reads):
                stale.update(t for t in step.writes if t not in self.given)
        for name in stale:
            self.keys.pop(name, None)
            self.known.pop(name, None)
        self.known[tensor] = terms
        self.given.add(tensor)

    def _constant(self, values: Array) -> ObjectArray:
        try:
            return self.numbers.constant(values)
        except _NO_TERMS:
            made = repr(content_of(values)).encode()
            return self.numbers.opaque(hashlib.sha256(made).digest(), values.shape)

    def written(self, step: Step) -> Iterable[ObjectArray]:
        """What a step writes; where terms cannot say it, by what the step is and reads."""
        if step.work <= _LAYER:
            try:
                return real_step(step, self.known, self.numbers)
            except _NO_TERMS:
                pass
        names = {t: self.key(t).hex() for t in step.reads}
        made = repr(key_of(self.graph, step, names)).encode()
        kinds = self.graph.types
        return [
            self.numbers.opaque(hashlib.sha256(b"%d" % place + made).digest(), kinds[t].shape)
            for place, t in enumerate(step.writes)
        ]

    def key(self, tensor: str) -> bytes:
        """Equal for tensors of equal terms, in row-major order, and for no others."""
        if tensor not in self.keys:
            atoms = np.array([t.number for t in self.of(tensor).ravel().tolist()], np.int64)
            self.keys[tensor] = hashlib.sha256(atoms.tobytes()).digest()
        return self.keys[tensor]


def terms_of(pair: Pair, numbers: TermField) -> tuple[Terms, Terms]:
    """The implementation and the specification in terms of the same variables."""
    impl = pair.impl.graph
    given = {a: numbers.variables(impl.types[a].shape) for a in pair.inputs}
    shaped = pair.specified(given)
    return Terms(impl, numbers, given), Terms(pair.spec.graph, numbers, shaped)
