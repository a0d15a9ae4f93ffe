"""Gradients as a Python function: what `refine grad` writes, as a model in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path

import numpy as np
from onnx import ModelProto

from gpu_check.common.writing import require_writable, write_whole
from onnx_import.errors import ModelError
from onnx_import.onnx.writer import model_of
from refine.claims.python_values import path_text, places_of, text_of
from refine.gradients.derived import serialised
from refine.gradients.differentiate import OWN
from refine.gradients.request import Request
from refine.options.keywords import PathText, sentences
from refine.options.models import Model, opened, read_as
from refine.options.settings import require_count
from refine.options.sizes import sizes_from


@sentences
def grad(
    model: Model,
    *,
    of: str | Sequence[str] | None = None,
    loss: str | None = None,
    value: str | None = None,
    wrt: str | Sequence[str] | None = None,
    ones: bool = False,
    keep: bool = False,
    step: str | None = None,
    lr: float | None = None,
    step_number: int = 1,
    rules: str = OWN,
    given: Mapping[str, object] | None = None,
    output: PathText | None = None,
    allow: PathText | Sequence[PathText] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> ModelProto:
    """The gradient of a model, or of a loss of its output, as an ONNX model, which every other
    function takes; written to `output` where that says so.

    The keywords are the options of `refine grad`; names are text joined by commas or a sequence.
    Its inputs are the model's and what the cotangents or the loss need, its outputs `grad_NAME`,
    and with `step` ("sgd", "adam") and `lr` also `next_NAME`, the weights after one step.

    >>> made = grad("examples/demo/pendulum.onnx", wrt=["weight1", "state"], loss="mse")
    >>> [given.name for given in made.graph.input], [out.name for out in made.graph.output]
    (['state', 'target'], ['grad_weight1', 'grad_state'])

    Raises ModelError for what cannot be differentiated so.
    """
    if output is not None:
        require_writable(Path(path_text("output", output)))
    require_count("step_number", step_number, least=1)
    texts = {"loss": loss, "value": value, "step": step}
    said = {name: None if v is None else text_of(name, v) for name, v in texts.items()}
    request = Request(
        of=_names("of", of),
        wrt=_names("wrt", wrt),
        loss=said["loss"],
        value=said["value"],
        step=said["step"],
        rate=None if lr is None else _rate(lr),
        number=step_number,
        rules=text_of("rules", rules),
        ones=bool(ones),
        keep=bool(keep),
    )
    if given is not None and not isinstance(given, Mapping):
        raise ModelError("given= is a mapping from inputs' names to arrays of integers")
    arrays = None if given is None else {name: np.asarray(v) for name, v in given.items()}
    with opened(model) as source:
        graph = read_as(
            source,
            random=True,
            allowed=places_of(allow),
            given=arrays,
            sizes=sizes_from(shapes, dims),
        )
        gradient = request.gradient_of(graph)
        name = f"gradient of {'model' if graph.source is None else graph.source.name}"
    if output is not None:
        data = serialised(gradient, name)
        write_whole(Path(path_text("output", output)), lambda file: file.write(data))
    made: ModelProto = model_of(gradient, name)
    return made


def _names(word: str, names: object) -> str | None:
    if names is None or isinstance(names, str):
        return names
    if not isinstance(names, Sequence):
        raise ModelError(f"{word}= is names joined by commas, or a sequence of names")
    return ",".join(text_of(word, name) for name in names)


def _rate(lr: object) -> float:
    if not isinstance(lr, Real) or isinstance(lr, bool):
        raise ModelError("lr= is the rate of learning, a number")
    return float(lr)
