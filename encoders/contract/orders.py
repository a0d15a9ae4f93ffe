"""In which order a runtime adds: named orders, and any explicit tree of additions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

from onnx_import.errors import ModelError

Merges: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class AnyOrder:
    """Additions associate in any order, chosen anew for every output element.

    With `alignment`, products may also be added in steps, as `AlignedSteps` does it with that many
    bits: any number of products and any partial sum in one step.
    """

    alignment: int | None = None

    def describe(self) -> str:
        steps = f" or in steps aligned to {self.alignment} bits" if self.alignment else ""
        return f"any order{steps}"


@dataclass(frozen=True)
class Sequential:
    """Terms are added from first to last into one accumulator."""

    def describe(self) -> str:
        return "sequential"


@dataclass(frozen=True)
class Pairwise:
    """The terms are halved recursively (first half ceil(n/2)) and the two sums added."""

    def describe(self) -> str:
        return "pairwise"


@dataclass(frozen=True)
class Blocked:
    """Blocks of `size` consecutive terms, each summed sequentially from its first product; the
    block sums are then added in order."""

    size: int

    def describe(self) -> str:
        return f"blocks of {self.size}"


@dataclass(frozen=True)
class Blocks:
    """As `Blocked`, with blocks of these lengths; what they leave over is one block more."""

    lengths: tuple[int, ...]

    def describe(self) -> str:
        return f"blocks of {' + '.join(map(str, self.lengths))}"


@dataclass(frozen=True)
class Dwindling:
    """As `Blocked`; what the blocks of `size`, a power of two, leave over makes blocks of half as
    many, and so on down to one: 11 terms in blocks of 4, 4, 2 and 1."""

    size: int

    def describe(self) -> str:
        return f"blocks of {self.size}, the rest in halves of that"


@dataclass(frozen=True)
class Strided:
    """Term k goes to lane k mod `count`, all terms do, and each lane is summed sequentially; the
    lanes of the first half are added up in order, those of the second half likewise, and then these
    two sums."""

    count: int

    def describe(self) -> str:
        return f"{self.count} lanes, added up half by half"


@dataclass(frozen=True)
class Lanes:
    """Term k goes to lane k mod `count`, a power of two, and each lane is summed sequentially; then
    lane i takes lane i + h for h = count/2, …, 2, 1. Terms that do not fill every lane are added to
    that sum one by one."""

    count: int

    def describe(self) -> str:
        return f"{self.count} lanes, folded by halves"


@dataclass(frozen=True)
class Tree:
    """Additions listed one by one, for one number n of terms: partial sum n + k adds two earlier
    numbers, the terms being 0, …, n − 1.

    A term that meets a partial sum is added to it (by FMA where products are contracted); of two
    terms the second is added to the first.
    """

    merges: Merges

    def describe(self) -> str:
        return f"a tree of {len(self.merges) + 1} terms"


@dataclass(frozen=True)
class AlignedSteps:
    """The steps of a tensor core: `terms` consecutive products at a time join the running sum.

    Within a step the exact products and the running sum are truncated, toward zero, to multiples of
    2^(e − alignment), e being the largest exponent among them, added exactly, and the result is
    truncated to the accumulator's format. The exponent of a product is the sum of its factors', a
    subnormal factor counting as the smallest normal number; products of zero do not count.
    Sums other than of matrix products are sequential. Source of the model: Xie et al. 2025, arXiv
    2511.10909; Fasi, Higham, Mikaitis & Pranesh 2021, PeerJ Computer Science 7:e330.
    """

    terms: int
    alignment: int

    def describe(self) -> str:
        return f"steps of {self.terms} products aligned to {self.alignment} bits"


InBlocks: TypeAlias = Sequential | Blocked | Dwindling | Blocks
Order: TypeAlias = InBlocks | AnyOrder | Pairwise | Lanes | Strided | Tree | AlignedSteps


def block_lengths(order: InBlocks, terms: int) -> tuple[int, ...]:
    """The lengths of the blocks into which an order cuts so many terms."""
    match order:
        case Sequential():
            lengths: Sequence[int] = (terms,)
        case Blocked(size):
            lengths = (size,) * -(-terms // size)
        case Dwindling(size):
            halves = [size >> k for k in range(1, size.bit_length())]
            lengths = (*(size,) * (terms // size), *(h for h in halves if terms % size & h))
        case Blocks(given):
            lengths = (*given, max(terms - sum(given), 0))
    ends = [min(end, terms) for end in accumulate(lengths)]
    return tuple(b - a for a, b in zip((0, *ends), ends, strict=False) if b > a)


def is_one_chain(order: Order, terms: int) -> bool:
    """Are so many terms added from the first to the last?"""
    if not isinstance(order, InBlocks):
        return False
    return block_lengths(order, terms) == (terms,)


def merges_of(order: Order, terms: int) -> Merges:
    """An order written as a tree.

    Raises ValueError for any order and for aligned steps, ModelError for a tree of another number
    of terms.
    """
    merges: list[tuple[int, int]] = []

    def merge(left: int, right: int) -> int:
        merges.append((left, right))
        return terms + len(merges) - 1

    def chain(items: Iterable[int]) -> int:
        first, *rest = items
        for item in rest:
            first = merge(first, item)
        return first

    def halves(low: int, high: int) -> int:
        if high - low == 1:
            return low
        middle = (low + high + 1) // 2
        left = halves(low, middle)
        return merge(left, halves(middle, high))

    match order:
        case Tree(given):
            if len(given) != terms - 1:
                raise ModelError(f"the contract's order, {order.describe()}, cannot add {terms}")
            return given
        case Lanes(count):
            full = terms // count * count
            lanes = [chain(range(i, full, count)) for i in range(min(count, full))]
            while len(lanes) > 1:
                half = len(lanes) // 2
                lanes = [merge(a, b) for a, b in zip(lanes[:half], lanes[half:], strict=True)]
            chain((*lanes, *range(full, terms)))
        case Strided(count):
            lanes = [chain(range(i, terms, count)) for i in range(min(count, terms))]
            chain(chain(half) for half in (lanes[: count // 2], lanes[count // 2 :]) if half)
        case Pairwise():
            halves(0, terms)
        case AnyOrder():
            raise ValueError("this contract does not pin the order of a sum")
        case AlignedSteps():
            raise ValueError("aligned steps are no tree of additions")
        case Sequential() | Blocked() | Dwindling() | Blocks():
            ends = list(accumulate(block_lengths(order, terms)))
            chain(chain(range(a, b)) for a, b in zip((0, *ends), ends, strict=False))
    return tuple(merges)


def without_steps(order: Order) -> Order:
    """How the same runtime adds up what are no products of matrices."""
    match order:
        case AnyOrder():
            return AnyOrder()
        case AlignedSteps():
            return Sequential()
        case _:
            return order


def alignment_of(order: Order) -> int | None:
    """To how many bits the terms of a step may be aligned; None if there are no such steps."""
    return order.alignment if isinstance(order, AnyOrder | AlignedSteps) else None


def checked_tree(merges: Merges) -> Tree:
    """A tree in which every term and partial sum is used once. Raises ValueError otherwise."""
    terms = len(merges) + 1
    used = [number for pair in merges for number in pair]
    later = any(number >= terms + k for k, pair in enumerate(merges) for number in pair)
    if later or sorted(used) != list(range(2 * terms - 2)):
        raise ValueError("a tree uses every term and every partial sum but the last exactly once")
    return Tree(merges)


def named_order(merges: Merges) -> Order:
    """The shortest name of a tree: sums of two numbers commute, so only its shape counts."""
    terms = len(merges) + 1
    first = next((k for k, (_, right) in enumerate(merges) if right != k + 1), terms - 1) + 1
    candidates: list[Order] = [Sequential(), Pairwise(), *(Lanes(2**k) for k in range(1, 7))]
    if first < terms:
        whole = [Dwindling(first)] if not first & (first - 1) else []
        candidates[1:1] = [Blocked(first), *whole]
    candidates += [Strided(2**k) for k in range(2, 7)]
    lengths = _leading_blocks(merges)
    candidates += [Blocks(lengths)] if lengths else []
    for candidate in candidates:
        if same_tree(merges_of(candidate, terms), merges):
            return candidate
    return checked_tree(merges)


def _leading_blocks(merges: Merges) -> tuple[int, ...]:
    """The sizes of the subtrees that the root's chain adds up; empty for a single term."""
    terms = len(merges) + 1
    sizes = [1] * terms
    for left, right in merges:
        sizes.append(sizes[left] + sizes[right])
    lengths, at = [], len(sizes) - 1
    while at >= terms:
        left, right = merges[at - terms]
        if sizes[right] == 1:
            lengths.append(sizes[at])
            break
        lengths.append(sizes[right])
        at = left
    return tuple(reversed(lengths))


def same_tree(one: Merges, other: Merges) -> bool:
    """Do two trees add the same pairs of partial sums, whichever is named first?"""
    known: dict[frozenset[int], int] = {}

    def root(merges: Merges) -> int:
        ids = list(range(len(merges) + 1))
        for left, right in merges:
            key = frozenset((ids[left], ids[right]))
            ids.append(known.setdefault(key, len(merges) + 1 + len(known)))
        return ids[-1]

    return len(one) == len(other) and root(one) == root(other)
