"""TfIdfVectorizer of stored integers: how often n-grams occur, which no runtime rounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnx_import.graph import Array, Node
from onnx_import.passes.folding.values import integer

_MOST = 2**20  # n-grams of a row that are looked at


def counted_ngrams(node: Node, values: Sequence[Array | None]) -> Array | None:
    """The counts, or their weights, in float32; None where a product of both is rounded. Raises
    ValueError for attributes that do not fit each other."""
    data, mode = values[0], node.attributes.get("mode")
    if data is None or data.dtype.kind not in "iu" or data.ndim not in (1, 2):
        return None
    columns = _listed(node, "ngram_indexes")
    places = _pool(node, columns)
    least, most = integer(node, "min_gram_length", 1), integer(node, "max_gram_length", 1)
    skips = range(integer(node, "max_skip_count", 0) + 1)
    rows = data.reshape(-1, data.shape[-1])
    if rows.size * len(skips) * max(most - least + 1, 1) > _MOST or least < 1:
        return None
    counts = np.zeros((len(rows), max(columns) + 1))
    for row, found in zip(rows, counts, strict=True):
        for n in range(least, most + 1):
            for step in (s + 1 for s in skips if n > 1 or s == 0):
                for start in range(len(row) - (n - 1) * step):
                    gram = tuple(int(v) for v in row[start : start + (n - 1) * step + 1 : step])
                    if gram in places:
                        found[places[gram]] += 1
    made = _weighted(node, counts, columns, mode.decode() if isinstance(mode, bytes) else mode)
    return None if made is None else made.reshape(*data.shape[:-1], -1)


def _listed(node: Node, name: str) -> list[int]:
    value = node.attributes.get(name)
    if not isinstance(value, tuple) or not value:
        raise ValueError(f"attribute '{name}' lists nothing")
    return [int(v) for v in value if isinstance(v, int)]


def _pool(node: Node, columns: Sequence[int]) -> dict[tuple[int, ...], int]:
    """The column of each n-gram."""
    pool, starts = _listed(node, "pool_int64s"), _listed(node, "ngram_counts")
    grams = []
    for k, start in enumerate(starts):
        end = starts[k + 1] if k + 1 < len(starts) else len(pool)
        if not 0 <= start <= end <= len(pool) or (end - start) % (k + 1):
            raise ValueError(f"attribute 'ngram_counts' is {starts}")
        grams += [tuple(pool[i : i + k + 1]) for i in range(start, end, k + 1)]
    if len(grams) != len(columns) or len(set(grams)) < len(grams) or min(columns) < 0:
        raise ValueError(f"{len(grams)} n-grams for {len(columns)} columns")
    if len(set(columns)) < len(columns):
        raise ValueError("two n-grams have one column")
    return dict(zip(grams, columns, strict=True))


def _weighted(
    node: Node, counts: npt.NDArray[np.float64], columns: Sequence[int], mode: object
) -> Array | None:
    weights = node.attributes.get("weights")
    factors = np.ones(counts.shape[1])
    if isinstance(weights, tuple):
        if len(weights) != len(columns):
            raise ValueError(f"{len(weights)} weights for {len(columns)} n-grams")
        factors[list(columns)] = [float(w) for w in weights]
    if mode == "TF":
        wide = counts
    elif mode == "IDF":
        wide = np.where(counts > 0, factors, 0.0)
    elif mode == "TFIDF":
        wide = counts * factors
    else:
        raise ValueError(f"attribute 'mode' is '{mode}'")
    made = wide.astype(np.float32)
    return made if np.array_equal(made.astype(np.float64), wide) else None
