"""From a path to a checked ONNX protobuf, with every way a file can be wrong put in a sentence."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx.checker import ValidationError

from onnx_import.errors import ModelError, UnsupportedModel, shorten
from onnx_import.files import open_plain, read_plain, within
from onnx_import.passes.normalize import sort_nodes
from onnx_import.passes.pipelines import DOMAIN
from onnx_import.tensors import every_tensor, external_file

_OF_PIPELINES = 17


def read_proto(
    source: Path, allowed: tuple[Path, ...] = ()
) -> tuple[onnx.ModelProto, str, tuple[str, ...]]:
    """The model in a file, the SHA-256 of the file in hex, and notes on external data.

    External data lie in the model's folder or below `allowed`; nothing else is opened.

    The nodes are put in topological order if they were not: runtimes accept any, ONNX's checker
    does not. Raises ModelError if there is no such file, it is not ONNX, the ONNX checker rejects
    it, or data it refers to are missing; UnsupportedModel if its operator set is out of range.
    """
    data = read_bytes(source)
    model = parse(data, source)
    require_text(model, source)
    opset_of(model, source)
    external = external_files(model, source, allowed)
    in_order = sort_nodes(model.graph)
    plain = in_order and not external and not unshaped(model.graph) and not withdrawn(model.graph)
    check(data if plain else checkable(model), source)
    notes = tuple(
        f"weights are also read from '{file.name}' (sha256 {sha256_of(file)})" for file in external
    )
    return model, hashlib.sha256(data).hexdigest(), notes


_FOREIGN: Mapping[bytes, str] = {
    b"PK\x03\x04": "a zip archive, such as torch.save (export with torch.onnx.export) or Keras "
    "(export with tf2onnx) writes",
    b"\x80": "a pickle, as of scikit-learn (export with skl2onnx.to_onnx) or of an older "
    "torch.save (export with torch.onnx.export)",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as of Keras (export with tf2onnx)",
    b"\x93NUMPY": "an array of numpy",
}
"""How files begin that are given in place of an exported model, and what these are."""


def read_bytes(source: Path) -> bytes:
    """The file's bytes. Raises ModelError if there are none."""
    try:
        data = read_plain(source)
    except FileNotFoundError as error:
        raise ModelError(f"'{source}' does not exist; give the path of an .onnx file") from error
    except IsADirectoryError as error:
        raise ModelError(f"'{source}' is a directory; give the path of an .onnx file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or shorten(error)
        raise ModelError(f"'{source}' cannot be read: {reason}") from error
    if not data:
        raise ModelError(f"'{source}' is empty; export or download the model again")
    if data.startswith(b"\x1f\x8b"):
        raise ModelError(f"'{source}' is compressed with gzip; unpack it first (gunzip)")
    if data.startswith(b"version https://git-lfs"):
        raise ModelError(f"'{source}' is a Git LFS pointer, not a model; run 'git lfs pull' first")
    return data


def parse(data: bytes, source: Path) -> onnx.ModelProto:
    """The protobuf in the bytes. Raises ModelError if they are not an ONNX model."""
    advice = "export or download the model again"
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        for start, what in _FOREIGN.items():
            if data.startswith(start):
                raise ModelError(f"'{source}' is {what}, not an ONNX file") from error
        raise ModelError(
            f"'{source}' is not an ONNX file, or is cut short ({shorten(error)}); {advice}"
        ) from error
    if not model.HasField("graph"):
        raise ModelError(f"'{source}' holds no ONNX graph, or is cut short; {advice}")
    if not model.graph.output:
        raise ModelError(f"'{source}' has no outputs; export the model with at least one output")
    return model


def require_text(model: onnx.ModelProto, source: Path) -> None:
    """Raises ModelError for a name, or another text, that is not UTF-8, as protobuf has texts."""
    messages: list[Message] = [model]
    while messages:
        message = messages.pop()
        for field, value in message.ListFields():
            if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
                continue
            several = (value,) if isinstance(value, str | bytes | Message) else value
            if field.type == field.TYPE_MESSAGE:
                messages.extend(several)
                continue
            for text in several:
                if isinstance(text, bytes):
                    raise ModelError(
                        f"'{source}' is not a valid ONNX model: {field.name} {text!r} of a "
                        f"{message.DESCRIPTOR.name} is not UTF-8; export the model again"
                    )


def opset_of(model: onnx.ModelProto, source: Path) -> int:
    """The version of the default operator set that a model imports.

    Of a model that uses none of it, and only ai.onnx.ml, one that has all that those need.

    Raises ModelError if it imports none, UnsupportedModel if the version is out of range.
    """
    versions = {o.version for o in model.opset_import if o.domain in ("", "ai.onnx")}
    if not versions and all(node.domain == DOMAIN for node in model.graph.node):
        versions = {_OF_PIPELINES}
    if len(versions) != 1:
        raise ModelError(
            f"'{source}' imports {'no version' if not versions else 'several versions'} of the "
            "ONNX operator set; export the model again"
        )
    version = int(versions.pop())
    newest = onnx.defs.onnx_opset_version()
    if not 7 <= version <= newest:
        raise UnsupportedModel(
            f"'{source}' uses opset {version}, and 7 to {newest} are supported; convert it with "
            "onnx.version_converter or export it with another opset"
        )
    return version


def external_files(
    model: onnx.ModelProto, source: Path, allowed: tuple[Path, ...] = ()
) -> tuple[Path, ...]:
    """The files that hold weights outside the model, read or not: a runtime may read any.

    Raises ModelError if one is missing, no plain file, or lies outside the model's folder and what
    is allowed.
    """
    files: dict[str, Path] = {}
    for tensor in every_tensor(model):
        name = external_file(tensor)
        if name is None or name in files:
            continue
        where = f"the external data file of '{tensor.name}',"
        files[name] = within(name, source.parent, allowed, where)
        if not files[name].is_file():
            missing = not files[name].exists()
            raise ModelError(
                f"the external data file '{name}' of initializer '{tensor.name}' is "
                f"{'missing' if missing else 'no plain file'}; put it at '{files[name]}'"
            )
        if os.stat(files[name]).st_nlink > 1 and not allowed:
            raise ModelError(
                f"the external data file '{name}' has further names (hard links), so that it may "
                f"belong elsewhere; copy it, or give --allow {source.parent} if you trust it"
            )
    return tuple(files.values())


def checkable(model: onnx.ModelProto) -> bytes:
    """A copy of the model without what ONNX's checker would reject and a runtime accepts.

    Tensors stored outside, which it would look for in the current directory, are emptied; inputs
    and outputs without a shape get one (the reader judges the inputs, and ignores the outputs').
    What ONNX has withdrawn stands as an operator of as many inputs.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in every_tensor(copy):
        if external_file(tensor) is not None:
            tensor.dims[:] = [0]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    for value in unshaped(copy.graph):
        value.type.tensor_type.shape.SetInParent()
    for node in withdrawn(copy.graph):
        node.op_type = _WITHDRAWN[node.op_type]
        del node.attribute[:]
    return bytes(copy.SerializeToString())


def unshaped(graph: onnx.GraphProto) -> tuple[onnx.ValueInfoProto, ...]:
    """The tensors among the graph's inputs and outputs that declare no shape, not even a rank."""
    return tuple(
        value
        for value in (*graph.input, *graph.output)
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
    )


def withdrawn(graph: onnx.GraphProto) -> tuple[onnx.NodeProto, ...]:
    """The nodes that ONNX's checker rejects at the opsets of their first meaning, which was
    withdrawn later, though runtimes go on computing it."""
    return tuple(n for n in graph.node if n.op_type in _WITHDRAWN and n.domain in ("", "ai.onnx"))


_WITHDRAWN: Mapping[str, str] = {"GroupNormalization": "InstanceNormalization"}


def check(model: bytes, source: Path) -> None:
    """Run ONNX's own checker. Raises ModelError with its first line."""
    try:
        onnx.checker.check_model(model)
    except (ValidationError, RuntimeError, ValueError, TypeError, OSError) as error:
        raise ModelError(
            f"'{source}' is not a valid ONNX model: {shorten(error)}; export the model again"
        ) from error


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal. Raises OSError."""
    with open_plain(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
