"""Inputs and parameters that several grids share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grid_cases import Grid, Inputs, kept, run

FLOATS = ("float32", "float32", "float64", "float16")
BRAIN = (*FLOATS, "bfloat16")
ANY = (*BRAIN, "int64", "uint8", "bool")
SHAPES = ((), (1,), (3,), (2, 3), (2, 1, 3), (1, 2, 2, 3), (0,), (2, 0))
AXES = (None, 0, 1, 2, 3, -1, -2, -4)


def unary(kind: str = "any", types: Sequence[str] = BRAIN, **parameters: Sequence[object]) -> Grid:
    places = [(run(*s, kind=kind),) for s in SHAPES] + [
        (kept(2, 3, kind=kind),),
        (kept(kind=kind),),
    ]
    return Grid(places, parameters, types)


PAIRS = (
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 1), (1, 3)),
    ((2, 3), ()),
    ((), (2, 3)),
    ((), ()),
    ((1, 2, 3), (4, 1, 1)),
    ((0, 3), (3,)),
    ((2, 3), (0, 1)),
    ((2, 0), (1,)),
)


def binary(
    left: str = "any", right: str = "any", types: Sequence[str] = BRAIN, whole: bool = False
) -> tuple[Grid, ...]:
    """Both computed, or one of them stored; with `whole` stored integers and truth values, too."""
    places = []
    for a, b in PAIRS:
        places += [
            (run(*a, kind=left), run(*b, kind=right)),
            (run(*a, kind=left), kept(*b, kind=right)),
            (kept(*a, kind=left), run(*b, kind=right)),
        ]
    places.append((kept(2, 3, kind=left), kept(3, kind=right)))
    integers = Grid(
        [(kept(*a, kind=left), kept(*b, kind=right)) for a, b in PAIRS[:8]],
        {},
        ("int64", "int32", "uint8", "int8"),
    )
    return (Grid(places, {}, types), integers) if whole else (Grid(places, {}, types),)


def logical() -> tuple[Grid, ...]:
    return tuple(Grid(grid.inputs, {}, ("bool",)) for grid in binary())


def variadic() -> tuple[Grid, ...]:
    pair = binary()[0].inputs
    many = [
        (run(2, 3),),
        (run(),),
        (run(2, 3), run(2, 3), run(2, 3)),
        (run(2, 1), kept(3), run(1, 1)),
        (kept(2, 3), kept(2, 3), run(3)),
        (run(2, 3), run(), kept(1, 2, 1), run(3)),
    ]
    return (Grid([*pair, *many], {}, BRAIN),)


def reduction(kind: str = "any", whole: bool = False) -> tuple[Grid, ...]:
    parameters = {
        "axes": (None, None, (), (0,), (1,), (-1,), (0, 1), (1, 2), (-1, 0), (0, 1, 2), (-3, -1)),
        "keepdims": (None, 0, 1),
        "noop_with_empty_axes": (None, 0, 1),
    }
    shapes = ((3,), (2, 3), (2, 3, 2), (2, 1, 3), (), (2, 0, 3), (1, 2, 3, 2), (1, 1))
    places = [(run(*s, kind=kind),) for s in shapes] + [(kept(2, 3, 2, kind=kind),)]
    grids = [Grid(places, parameters, BRAIN)]
    if whole:
        stored = [(kept(*s, kind=kind),) for s in shapes]
        grids.append(Grid(stored, parameters, ("int64", "int32", "uint8")))
    return tuple(grids)


def moved(*places: Inputs, **parameters: Sequence[object]) -> Grid:
    """Data that are moved, computed and stored."""
    return Grid(places, parameters, ANY)


def both(*shapes: tuple[int, ...]) -> list[Inputs]:
    return [(data(*s),) for data in (run, kept) for s in shapes]


SOFT = [(run(*s),) for s in ((3,), (2, 3), (2, 3, 2), (1, 2, 2, 3), (2, 0), ())] + [
    (kept(2, 3, 2),)
]
NORM4 = ((2, 3, 2, 2), (1, 2, 4), (2, 4), (1, 3, 1, 2, 2), (3,))


def channels(shape: tuple[int, ...], count: int, given: Any) -> list[Inputs]:
    """The data, and `count` vectors of their channels, the fourth positive."""
    c = shape[1] if len(shape) > 1 else 1
    return [(run(*shape), *(given(c, kind="positive" if i == 3 else "any") for i in range(count)))]


def normalized(count: int) -> list[Inputs]:
    return [p for s in NORM4 for g in (kept, run) for p in channels(s, count, g)]


def trailing(bias: bool) -> list[Inputs]:
    """Data, scale and perhaps bias, of the axes from somewhere on."""
    found: list[Inputs] = []
    for shape in ((2, 3), (2, 3, 4), (1, 2, 3, 2), (3,)):
        for k in range(len(shape)):
            tail = shape[k:]
            found += [(run(*shape), kept(*tail)), (run(*shape), run(*tail)), (run(*shape), kept(1))]
            if bias:
                found += [
                    (run(*shape), kept(*tail), kept(*tail)),
                    (run(*shape), kept(*tail), run(*tail)),
                ]
    return found
