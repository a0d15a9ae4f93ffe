"""A model as a Python value: a path, the bytes of a file, an ONNX message, a graph."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from encoders.arithmetic.handling import handling_of
from encoders.contract.contract import RuntimeContract
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph, Sizes

Model: TypeAlias = object
"""`str`, `os.PathLike`, `bytes`, `onnx.ModelProto` or a `Graph` that has been read."""
_FPCORE = b"(FPCore"
_ONLY_SIZE = 2**31 - 1  # bytes that a protobuf message may have


@contextmanager
def opened(model: Model, name: str = "model") -> Iterator[Path | Graph]:
    """The file of a model, or its graph. Bytes and messages are a file while this is entered.

    Raises ModelError for a value that is no model; what is raised within names no such file.
    """
    if isinstance(model, Graph):
        yield model
        return
    if isinstance(model, str | os.PathLike):
        path = os.fspath(model)
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        yield Path(path)
        return
    data = _bytes_of(model, name)
    suffix = ".fpcore" if data.lstrip().startswith(_FPCORE) else ".onnx"
    with TemporaryDirectory(prefix="refine-") as folder:
        file = Path(folder) / f"{name}{suffix}"
        file.write_bytes(data)
        try:
            yield file
        except ModelError as error:
            raise type(error)(shown(str(error), file)) from error


def read_as(
    source: str | Path | Graph,
    contract: RuntimeContract | None = None,
    *,
    random: bool = False,
    allowed: tuple[Path, ...] = (),
    given: Mapping[str, Array] | None = None,
    sizes: Sizes | None = None,
    pinned: Mapping[str, Array] | None = None,
) -> Graph:
    """The graph of a file, read as a runtime that obeys the contract does where one is given; a
    graph that has been read is itself. Inputs of integers that are `given` are constants; `sizes`
    says what the dimensions are that the file leaves open. Inputs that are `pinned` stay inputs,
    and constants are read in their place."""
    if isinstance(source, Graph):
        if sizes is not None and (sizes.shapes or sizes.dims):
            raise ModelError("a graph that has been read has its shapes: give them to load")
        return source
    handling = None if contract is None else handling_of(contract)
    return load(
        source,
        random=random,
        allowed=allowed,
        handling=handling,
        given=given,
        sizes=sizes,
        pinned=pinned,
    )


def read_for(
    source: Path,
    contracts: Sequence[RuntimeContract],
    *,
    allowed: tuple[Path, ...] = (),
    given: Mapping[str, Array] | None = None,
    sizes: Sizes | None = None,
) -> Graph:
    """The graph of a file, in which nothing is computed of stored numbers that a runtime which
    obeys one of the contracts would find otherwise. `given` and `sizes` as in `read_as`."""
    return load(source, allowed=allowed, handling=handling_of(*contracts), given=given, sizes=sizes)


def is_file(model: Model) -> bool:
    """Does it lie in a file of the user's?"""
    return isinstance(model, str | os.PathLike)


def shown(text: str, file: Path) -> str:
    """A text without the name of a file that was there for a moment."""
    name = f"<{file.stem}>"
    return text.replace(f"'{file}'", name).replace(str(file), name)


def _bytes_of(model: Model, name: str) -> bytes:
    """Raises ModelError for what is no model, with the way to one."""
    if isinstance(model, bytes | bytearray | memoryview):
        return bytes(model)
    if _is_proto(model):
        return _serialised(model, name)
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    if callable(getattr(model, "state_dict", None)):
        raise ModelError(
            f"{name} is a module of PyTorch ({kind}); export it to a file with "
            "torch.onnx.export(module, example_inputs, 'model.onnx'), and give that path"
        )
    raise ModelError(
        f"{name} is a {kind.removeprefix('builtins.')}; give a path, the bytes of a file or an "
        "onnx.ModelProto"
    )


def _is_proto(model: Model) -> bool:
    """By its names, so that onnx need not be imported to know a value that is none."""
    return type(model).__name__ == "ModelProto" and hasattr(model, "SerializeToString")


def _serialised(model: Model, name: str) -> bytes:
    from onnx_import.tensors import every_tensor, external_file

    outside = [t.name for t in every_tensor(model) if external_file(t) is not None]  # type: ignore[arg-type]
    if outside:
        raise ModelError(
            f"{name} keeps the weights of '{outside[0]}' in another file; give the path of the "
            "model that lies beside it, or load the weights (onnx.load does)"
        )
    try:
        return bytes(model.SerializeToString())  # type: ignore[attr-defined]
    except Exception as error:  # protobuf has no class for it
        raise ModelError(f"{name} is larger than a message may be; save it to a file") from error
