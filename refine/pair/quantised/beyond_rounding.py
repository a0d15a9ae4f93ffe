"""What a quantised copy changes beyond rounding: scales that are wrong, told from noise.

Rounding to a grid leaves weights w as w + δ with δ of either sign, so that the factor k which fits
them best to the original's is 1 up to rms(δ)/|w|, a standard error. A scale that is wrong by two
percent shifts all of them alike: k is then off by many of these.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from encoders.numbers.enclosure import FloatArray
from encoders.program import program_of
from refine.pair.quantised.lockstep import Lockstep

_DEVIATIONS = 8.0  # of standard errors, beyond which chance does not explain a factor
_NOTICED = 1e-3  # of a factor: less does less than the roundings do
_FEWEST = 8  # weights that a factor is fitted to


def beyond_rounding(pair: Lockstep) -> tuple[str, ...]:
    """In words: constants that are not the original's up to rounding, and integers that are read on
    another grid than they are written on, the largest factor first."""
    found = [*_constants(pair), *_grids(pair)]
    return tuple(text for _, text in sorted(found, key=lambda each: -each[0]))


def _constants(pair: Lockstep) -> Iterator[tuple[float, str]]:
    copies = program_of(pair.copy.graph)
    for step in program_of(pair.meant).steps:
        if step.name not in pair.changed:
            continue
        other = copies.step(pair.copy.graph.named[step.name])
        for a, b in zip(other.site.constants, step.site.constants, strict=True):
            if a is None or b is None or a.shape != b.shape or a.dtype.kind != "f":
                continue
            factor = _factor(np.asarray(a, np.float64), np.asarray(b, np.float64))
            if factor is not None:
                place = step.name.partition("//")[0]
                yield (
                    abs(factor - 1.0),
                    f"constants of '{place}' are {factor:.4g} times those specified",
                )


def _factor(a: FloatArray, b: FloatArray) -> float | None:
    """The factor of all elements, or of those at one place of an axis where that is twice as far
    from 1, that is no chance; None where there is none."""
    worst: float | None = None
    for axis in (None, *range(b.ndim)):
        rows = [a.reshape(1, -1), b.reshape(1, -1)]
        if axis is not None:
            rows = [np.moveaxis(v, axis, 0).reshape(v.shape[axis], -1) for v in (a, b)]
        if rows[0].shape[1] < _FEWEST:
            continue
        with np.errstate(all="ignore"):
            size = np.sum(rows[1] ** 2, axis=1)
            k = np.sum(rows[0] * rows[1], axis=1) / size
            rest = rows[0] - k[:, None] * rows[1]
            error = np.sqrt(np.mean(rest**2, axis=1) / size)
        off = np.where(np.isfinite(k), np.abs(k - 1.0), 0.0)
        strange = (off > _NOTICED) & (off > _DEVIATIONS * error)
        if np.any(strange):
            place = int(np.argmax(np.where(strange, off, 0.0)))
            if worst is None or 2.0 * abs(worst - 1.0) < off[place]:
                worst = float(k[place])
    return worst


def _grids(pair: Lockstep) -> Iterator[tuple[float, str]]:
    for node in pair.meant.order:
        between = pair.copy.roles[node.name].regrid
        if between is None:
            continue
        before, after = between
        ratio = np.asarray(after.scale / before.scale).reshape(-1)
        factor = float(ratio[np.argmax(np.abs(ratio - 1.0))])
        said = f"integers of '{node.inputs[0]}' are read in steps {factor:.4g} times those written"
        if factor == 1.0:
            said = f"integers of '{node.inputs[0]}' are read around another zero point"
        yield max(abs(factor - 1.0), _NOTICED), said
