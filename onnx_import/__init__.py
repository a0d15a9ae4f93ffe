"""Files in, graph out: readers of model files and the graph they produce.

A reader is imported when a file needs it: most files need one, and their errors none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_import.errors import ModelError
from onnx_import.files import is_fpcore, is_json, is_onnx

if TYPE_CHECKING:
    from onnx_import.graph import Array, Graph, Handling, Sizes

MOST_ELEMENTS = 2**36  # of one stored tensor


def load(
    path: str | Path,
    batch: int | None = None,
    random: bool = False,
    allowed: tuple[Path, ...] = (),
    handling: Handling | None = None,
    given: Mapping[str, Array] | None = None,
    sizes: Sizes | None = None,
    pinned: Mapping[str, Array] | None = None,
) -> Graph:
    """Read a model file: FPCore by its name, ONNX or TorchLean JSON as its content says.

    `batch`, for ONNX only, is the size of every input's first dimension where the file leaves it
    open or has 1. Only where `random` is true may the network draw numbers, its masks then being
    inputs (`Graph.random_masks`). `allowed` are places outside the model's folder where files
    that it names may lie. `handling` says what the runtime does to stored numbers (None: nothing):
    nodes are computed while the file is read only where that changes none of them. `given`, for
    ONNX only, are the numbers of inputs of integers or truth values, which become constants, as
    do those that are `pinned`, which stay inputs without effect; `sizes` says what the dimensions
    are that the file leaves open. Raises ModelError only.
    """
    source = Path(path)
    if batch is not None and not is_onnx(source):
        raise ModelError(f"{source}: only ONNX files can be read with a batch of {batch}")
    if sizes is not None and (sizes.shapes or sizes.dims) and not is_onnx(source):
        raise ModelError(f"{source}: only ONNX files leave shapes open, which can be given")
    if is_fpcore(source):
        from onnx_import.fpcore import reader as fpcore

        return fpcore.load(source)
    from onnx_import.graph import as_written

    if is_json(source):
        from onnx_import.torchlean import reader as torchlean

        return _holdable(torchlean.load(source, handling or as_written))
    from onnx_import.onnx import reader

    how = handling or as_written
    return _holdable(reader.load(source, batch, random, allowed, how, given, sizes, pinned))


def interface(
    path: Path, allowed: tuple[Path, ...] = (), sizes: Sizes | None = None
) -> Graph | None:
    """A graph with the inputs of an ONNX file alone; None for another file. Raises ModelError."""
    if not is_onnx(path):
        return None
    from onnx_import.onnx import reader

    return reader.interface(path, allowed, sizes)


def _holdable(graph: Graph) -> Graph:
    """Raises ModelError for a graph with a tensor that no machine holds as often as it must."""
    from onnx_import.onnx.inference import MOST_COMPUTED

    for tensor, kind in graph.types.items():
        most = MOST_ELEMENTS if graph.is_constant(tensor) else MOST_COMPUTED
        if kind.size > most:
            raise ModelError(
                f"'{graph.source}': tensor '{tensor}' of shape {list(kind.shape)} has more than "
                f"2^{most.bit_length() - 1} elements; correct the shapes"
            )
    return graph


__all__ = ["interface", "is_onnx", "load"]
