"""What is asked of gradients, as users write it, and the graph that answers it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from onnx_import.errors import ModelError, shorten
from onnx_import.graph import Graph
from onnx_import.passes.newer import with_newer_operators
from refine.gradients.differentiate import OWN, Asked, differentiated, require_meaning
from refine.gradients.losses import LOSS, with_loss, with_value
from refine.gradients.steps import Adam, Sgd, Step

SGD, ADAM = "sgd", "adam"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A gradient in a user's words: names joined by commas; see `Asked`."""

    of: str | None = None
    loss: str | None = None
    wrt: str | None = None
    step: str | None = None
    rate: float | None = None
    number: int = 1
    rules: str = OWN
    ones: bool = False
    keep: bool = False
    value: str | None = None

    def gradient_of(self, graph: Graph) -> Graph:
        """The gradient graph. Raises ModelError, UnsupportedModel as `differentiated` does."""
        require_meaning(graph)
        graph = with_newer_operators(graph)
        if self.value is not None:
            if (self.of, self.loss, self.wrt, self.step) != (None,) * 4:
                raise ModelError("--value writes an expression alone; differentiate its file next")
            return with_value(graph, self.value, keep=self.keep)
        of = names_of(self.of)
        asked = Asked(
            of=of,
            wrt=names_of(self.wrt),
            ones=self.ones,
            rules=self.rules,
            keep=self.keep,
            step=self._step(),
        )
        if self.loss is None:
            return differentiated(graph, asked)
        if len(of) > 1:
            raise ModelError("a loss is of one output; --of names several")
        whole = with_loss(graph, self.loss, of[0] if of else None, keep=self.keep)
        return differentiated(whole, replace(asked, of=(_loss_of(whole),), ones=True))

    def _step(self) -> Step | None:
        if self.step is None:
            if self.rate is not None:
                raise ModelError("--lr belongs to a --step, sgd or adam")
            return None
        if self.rate is None:
            raise ModelError("--step needs the rate of learning: --lr")
        if self.wrt is None:
            raise ModelError("--step needs the weights that it changes: --wrt")
        if self.step == SGD:
            return Sgd(rate=self.rate)
        if self.step == ADAM:
            return Adam(rate=self.rate, number=self.number)
        raise ModelError(f"there is no step '{shorten(self.step)}'; there is {SGD}, {ADAM}")


def _loss_of(graph: Graph) -> str:
    return next(t for t in reversed(graph.outputs) if t.startswith(LOSS))


def names_of(text: str | None) -> tuple[str, ...]:
    """Names joined by commas."""
    return () if text is None else tuple(n.strip() for n in text.split(",") if n.strip())
