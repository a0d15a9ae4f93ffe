"""What comparisons, searches and schedules may know of an operator beside its semantics.

All of it is optional. An operator that says nothing is not known to be equal to anything, breaks
down nowhere, decides nothing and is no sum: every default is the sound one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.runtime import Relation
from encoders.site import Site
from onnx_import.graph import Array

FloatArray = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]


def _never(site: Site) -> bool:
    return False


@dataclass(frozen=True)
class Breaks:
    """Which inputs, by position, a search drives towards where the operator may break down.

    `vanishing` must not become zero, `growing` must not become large, and at zero of `turning` the
    operator's slope changes. They guide a search and prove nothing.
    """

    vanishing: int | None = None
    growing: int | None = None
    turning: int | None = None


NOWHERE = Breaks()
"""Of an operator that breaks down at no input that is worth looking for."""


class Discontinuity(Enum):
    """How an operator's result jumps as its operands move; guides a search and proves nothing."""

    COMPARISON = "where its two operands are equal"
    LARGEST = "where another element becomes the largest along attribute 'axis'"
    SMALLEST = "where another element becomes the smallest along attribute 'axis'"
    STEP = "at steps, element by element"
    OWN_GRID = "at steps of a grid of 256 points that the range of what it reads decides"


class Commuting(Enum):
    """What an operator makes of two operands over the reals, whose order says nothing."""

    SUM = "sum"
    PRODUCT = "product"


@dataclass(frozen=True)
class Product:
    """The real semantics x·`matrix` + b: x is the first input, b the one at position `bias`."""

    matrix: Array
    bias: int | None = None


@dataclass(frozen=True)
class ChannelMap:
    """y = s·x + t per channel, in float64: s within 5 roundings of `scale`, relative, and t within
    `shift_error` of `shift`; arrays (channels,)."""

    scale: FloatArray
    shift: FloatArray
    shift_error: FloatArray


@dataclass(frozen=True)
class Likeness:
    """When nodes of the operator are the same real function as others.

    `reshapes`: the result is the first input in row-major order under another shape. `copies(site)`
    says that the result is the first input itself, number by number, wherever both are
    floating-point or of one type. `commuting` is the operation where it is a sum or a product of
    two operands. `product(site)` gives a product by a constant matrix, None where the node is none.
    `turned(site)` is the order in which axes are put, where that is all a node does;
    `reduced(site)` the axes, none of them twice, along which the first input is made one number,
    where they are all that attributes and other inputs say.
    `implied` are attributes that repeat what the shapes and types of inputs and results say.
    `linear_in_constants`: while one of the first two inputs varies and all others are constants, it
    is linear in all of these together. `per_weight(site, scale)`, of a layer with weights at input
    1 and a bias per channel at input 2, spreads numbers (channels,) over the weights, each to
    those that lead to its channel; `feeding(site)` is the channel of the input, along axis 1, that
    each weight reads, where they are (channels, …) and what they make is a sum over them.
    `channels(site)` is what a node that has passed `check` does to
    each channel. `limits(site)` are the ends between which the first input is kept, where that is
    all a node does to it. `selects` says that every element of the result is one of the first
    input's, and which one depends on their order alone. `by_version`: the semantics here ask for
    the version of the operator set; of an operator that does not, nodes of all versions with the
    same attributes are alike. `lower` is the position of the operand that is not the larger one
    where a comparison holds; `chooses` says that the result is the second input where the first
    is true, else the third.
    """

    reshapes: bool = False
    copies: Callable[[Site], bool] = _never
    commuting: Commuting | None = None
    product: Callable[[Site], Product | None] = lambda site: None
    turned: Callable[[Site], tuple[int, ...] | None] = lambda site: None
    reduced: Callable[[Site], tuple[int, ...] | None] = lambda site: None
    implied: frozenset[str] = frozenset()
    linear_in_constants: bool = False
    per_weight: Callable[[Site, FloatArray], FloatArray] | None = None
    feeding: Callable[[Site], npt.NDArray[np.intp]] | None = None
    channels: Callable[[Site], ChannelMap] | None = None
    limits: Callable[[Site], tuple[float, float] | None] = lambda site: None
    selects: bool = False
    by_version: bool = False
    lower: int | None = None
    chooses: bool = False


UNLIKE = Likeness()
"""Of an operator whose nodes are the same function where they are written the same alone."""


@dataclass(frozen=True)
class Extent:
    """How many terms the sums of a node have, and how they lie in one matrix product.

    `rows` and `columns` are M and N of Gemm, the output channels of a group and the output pixels
    of a convolution, and of MatMul the rows of all first factors and the columns, where the second
    is one matrix, else those of each product by itself: a vector on the right meets one row after
    the other. `plain`: the second factor is one matrix, and nothing is scaled.
    """

    terms: int
    rows: int
    columns: int
    plain: bool = False


@dataclass(frozen=True)
class Compared:
    """What a comparison asks of its two operands; `turned`: of the second and the first."""

    relation: Relation
    turned: bool = False


@dataclass(frozen=True)
class Sums:
    """Of an operator whose results are sums: what a rule of a contract can ask of them, and what
    a probe must know to take them apart.

    `extent(site)` are their measures. `summands(site)` are the positions of a plain
    sum, (terms, *output shape) among those of the first input; `mean` says that it is divided by
    their number. `products` says that `runtime` is a single chain of products of the first two
    inputs, to which the third is added; `weights_left` that the second input is the left factor,
    whose rows are the channels of the result. `batched(site)`: rows along the first axis of the
    first input are results of their own, by the same second input. `first(site, n)` is the site
    with the stored weights of the first n products of each sum, and 0 for others.
    """

    extent: Callable[[Site], Extent]
    summands: Callable[[Site], Index] | None = None
    mean: bool = False
    products: bool = False
    weights_left: bool = False
    batched: Callable[[Site], bool] = _never
    first: Callable[[Site, int], Site] | None = None


class Absorption(Enum):
    """On what a node reads its own relative rounding errors, and those asked of its result, can be
    laid, so that the result is exact: what backward errors are computed from.

    Of TERMS every one has to take them, of FACTORS any one; ALIKE and SCALED results are chosen
    among numbers that are read, or are such numbers times a fixed one, without and with a rounding.
    """

    TERMS = "each term of a sum"
    FACTORS = "either factor of a product"
    QUOTIENT = "the dividend or the divisor"
    ROOT = "the argument of a root"
    ALIKE = "every number of which one is chosen"
    SCALED = "every number of which one is chosen and scaled"
    CHOSEN = "both numbers of which a condition chooses"
    COMPARED = "nothing: what is compared has to be exact"
    NUMBER = "nothing: a number of a formula, rounded once"
    MATRIX = "either factor of a product of matrices, and its bias"
    CHANNELS = "scale, shift and mean of a channel"


@dataclass(frozen=True)
class Absorbing:
    """How a node absorbs errors; `scalings(site)` counts roundings of each product and of the bias
    beside those of the sum, and `factor(site)` is the largest magnitude that a result is scaled by.
    `terms_of(site)` counts the terms of a sum that is no operation of two operands, None of those.
    """

    by: Absorption
    scalings: Callable[[Site], tuple[int, int]] = lambda site: (0, 0)
    factor: Callable[[Site], float] = lambda site: 1.0
    terms_of: Callable[[Site], int | None] = lambda site: None
