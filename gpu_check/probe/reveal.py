"""The order in which an implementation adds, from what it returns for chosen inputs.

FPRev (Xie, Dai, Li, Dong, Yuan & Zheng, USENIX ATC 2025): with a huge number at term i, its
negative at term j and ones elsewhere, the ones that are added before the two huge numbers meet
vanish, so the result counts the terms outside the smallest subtree that holds both i and j.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from encoders.contract.orders import Merges

FloatArray = npt.NDArray[np.float64]

HUGE = 2.0**100  # in binary32 it absorbs any number of ones
_DEEPEST = 200


class NotATree(ValueError):
    """The results are not those of one tree of additions of two numbers each."""


def revealed(total: Callable[[FloatArray], float], terms: int) -> Merges:
    """The tree by which `total` adds so many terms. Raises NotATree."""
    merges: list[tuple[int, int]] = []

    def subtree(i: int, j: int) -> int:
        mask = np.ones(terms)
        mask[i], mask[j] = HUGE, -HUGE
        size = terms - total(mask)
        if not 2 <= size <= terms or size != int(size):
            raise NotATree(f"terms {i} and {j} meet in no subtree")
        return int(size)

    def build(leaves: Sequence[int], depth: int) -> tuple[int, int]:
        """The root of the tree of these terms, and their number."""
        if depth > _DEEPEST:
            raise NotATree("the tree is too deep")
        root, size = leaves[0], 1
        groups: dict[int, list[int]] = {}
        for leaf in leaves[1:]:
            groups.setdefault(subtree(leaves[0], leaf), []).append(leaf)
        for reach in sorted(groups):
            other, count = build(groups[reach], depth + 1)
            size += count
            if size != reach:
                raise NotATree("the sizes of subtrees do not add up")
            merges.append((root, other))
            root = terms + len(merges) - 1
        return root, size

    build(range(terms), 0)
    return tuple(merges)
