"""What is kept of the application of a lemma: the record of a radius."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import Formula


@dataclass(frozen=True, eq=False, slots=True)
class Application:
    """That a lemma was applied: to how many elements, and to which numbers at the worst of them.

    `numbers` follow `lemma.read`; `bound` is the largest radius, of that element. Of an induction
    they are those of its last step. `failed` is a hypothesis that did not hold of some element,
    whose radius is +∞. `flawed` says that a radius, here or on the way, was negative although all
    hypotheses held: an error of ours. Without a lemma it says that nothing is known, or that the
    premises are the worst applications, one of each lemma, of those that the radius rests on.
    """

    lemma: Lemma | None
    numbers: tuple[float | Fraction, ...]
    bound: float
    elements: int
    premises: tuple[Application, ...]
    failed: Formula | None = None
    flawed: bool = False

    def __post_init__(self) -> None:
        if not self.flawed and any(premise.flawed for premise in self.premises):
            object.__setattr__(self, "flawed", True)

    @property
    def lemmas(self) -> tuple[str, ...]:
        """Names of the lemmas that this rests on, its own first."""
        return lemmas_of(self.everything())

    def everything(self) -> Iterator[Application]:
        """This application and all that it rests on, each once."""
        return everything((self,))


def lemmas_of(applications: Iterable[Application]) -> tuple[str, ...]:
    """Names of the lemmas that these cite themselves, each once."""
    found: dict[str, None] = {}
    for here in applications:
        if here.lemma is not None:
            found.update(dict.fromkeys((here.lemma.name, *here.lemma.rests_on)))
    return tuple(found)


def worst_of_each(roots: Iterable[Application]) -> tuple[Application, ...]:
    """Of each lemma that these rest on its worst application, without premises, which speaks of
    the elements of all of them; and beside it the worst of those of which a hypothesis failed."""
    worst: dict[tuple[str, bool], Application] = {}
    elements: dict[tuple[str, bool], int] = {}
    for here in everything(roots):
        if here.lemma is None:
            continue
        key = (here.lemma.name, here.failed is None)
        elements[key] = elements.get(key, 0) + here.elements
        if key not in worst or _worse(here, worst[key]):
            worst[key] = here
    return tuple(
        here
        if not here.premises and here.elements == elements[key]
        else replace(here, premises=(), elements=elements[key])
        for key, here in worst.items()
    )


def _worse(here: Application, other: Application) -> bool:
    return (here.elements > 0, here.bound) > (other.elements > 0, other.bound)


def everything(roots: Iterable[Application]) -> Iterator[Application]:
    """The applications and all that they rest on, each once."""
    rest = list(roots)
    seen = {id(root) for root in rest}
    while rest:
        here = rest.pop()
        yield here
        for premise in here.premises:
            if id(premise) not in seen:
                seen.add(id(premise))
                rest.append(premise)
