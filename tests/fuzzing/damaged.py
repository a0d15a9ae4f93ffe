"""Damage done to files at random: to the structure of models, to bytes, to the tokens of texts."""

from __future__ import annotations

import contextlib
import json
import random
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import onnx
from onnx import TensorProto, helper

_DIMS = (0, 1, 2, 3, 7, -1, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63))
_TEXTS = ("", "x", "y", "\x1b[2J", "a\nb", "é", "../../etc/passwd", "/etc/passwd", "w", "[red]")
_NUMBERS = ("0", "-1", "1e999999999", "1" * 5000, "nan", "inf", "-0", "1e-400", "1/0", "0x1p3")


def damage_model(model: onnx.ModelProto, rng: random.Random) -> None:
    """One structural change that a writer of files could make."""
    graph = model.graph
    node = rng.choice(graph.node) if graph.node else graph.node.add()
    tensor = rng.choice(graph.initializer) if graph.initializer else graph.initializer.add()
    value = rng.choice([*graph.input, *graph.output] or [graph.input.add()])

    def attribute() -> None:
        name = rng.choice(["axis", "axes", "perm", "to", "alpha", "mode", "value", "body", "group"])
        kind: Any = rng.choice([1, 1.5, "text", b"\xff", [1, 2], [-5], [0.5], ["t"], tensor, graph])
        node.attribute.append(helper.make_attribute(name, kind))

    def retype() -> None:
        for a in node.attribute:
            a.type = rng.randrange(0, 15)

    def subgraph() -> None:
        copy = onnx.GraphProto()
        copy.CopyFrom(graph)
        node.op_type = rng.choice(["If", "Loop", "Scan"])
        node.attribute.append(helper.make_attribute("body", copy))

    def function() -> None:
        body = [helper.make_node("F", ["a"], ["b"], domain="loc")]
        model.functions.append(
            helper.make_function("loc", "F", ["a"], ["b"], body, model.opset_import)
        )
        node.op_type, node.domain = "F", "loc"

    def external() -> None:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        place = rng.choice(["../secret", "/etc/passwd", "here.bin", "", "\0", "..", "missing"])
        tensor.external_data.add(key="location", value=place)
        tensor.external_data.add(key=rng.choice(["offset", "length"]),
                                 value=rng.choice(["-1", "x", "9" * 30, "0", "7"]))  # fmt: skip

    changes: Sequence[Callable[[], Any]] = (
        lambda: setattr(node, "op_type", rng.choice(operator_names())),
        lambda: setattr(node, "name", rng.choice(_TEXTS)),
        lambda: setattr(node, "domain", rng.choice(["ai.onnx.ml", "com.microsoft", "\x1b", "x"])),
        lambda: node.input.append(rng.choice(["x", "w", "y", "", "k", "nowhere"])),
        lambda: node.output.append(rng.choice(["y", "h", "x", "", "more"])),
        lambda: node.input and node.input.pop(),
        lambda: node.output and node.output.pop(),
        lambda: node.ClearField("attribute"),
        lambda: node.input.__setitem__(0, rng.choice(["y", "k", "w", ""])) if node.input else None,
        lambda: graph.node.append(node),
        lambda: graph.node.remove(node),
        lambda: tensor.dims.__setitem__(slice(None), rng.choices(_DIMS, k=rng.randrange(5))),
        lambda: setattr(tensor, "data_type", rng.choice([*range(28), 99, -1])),
        lambda: setattr(tensor, "raw_data", rng.randbytes(rng.randrange(40))),
        lambda: tensor.float_data.extend([1.0, float("nan")]),
        lambda: setattr(tensor, "name", rng.choice(_TEXTS)),
        lambda: graph.initializer.append(tensor),
        lambda: value.type.tensor_type.shape.dim.add(dim_value=rng.choice(_DIMS)),
        lambda: value.type.tensor_type.shape.dim.add(dim_param=rng.choice(_TEXTS)),
        lambda: setattr(value.type.tensor_type, "elem_type", rng.randrange(28)),
        lambda: value.type.ClearField("tensor_type"),
        lambda: setattr(value, "name", rng.choice(_TEXTS)),
        lambda: graph.input.append(value),
        lambda: graph.output.append(value),
        lambda: setattr(model.opset_import[0], "version", rng.choice([0, 1, 7, 13, 22, 9999, -1])),
        lambda: model.opset_import.add(domain="", version=3),
        lambda: setattr(model, "ir_version", rng.choice([0, 3, 4, 99, -1])),
        lambda: model.ClearField("opset_import"),
        lambda: graph.sparse_initializer.add().values.CopyFrom(tensor),
        lambda: graph.value_info.append(value),
        attribute, attribute, attribute, retype, subgraph, function, external,
    )  # fmt: skip
    with contextlib.suppress(ValueError, TypeError, IndexError):
        rng.choice(changes)()


@cache
def operator_names() -> tuple[str, ...]:
    return tuple(sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}))


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out, repeated or put elsewhere."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at, other = rng.randrange(len(out) + 1), rng.randrange(len(out) + 1)
        lo, hi = min(at, other), min(max(at, other), min(at, other) + 40)
        match rng.randrange(6):
            case 0 if out:
                out[min(at, len(out) - 1)] = rng.choice(
                    [0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)]
                )
            case 1:
                del out[lo:hi]
            case 2:
                out[at:at] = out[lo:hi]
            case 3:
                out[at:at] = rng.randbytes(rng.randrange(1, 5))
            case 4:
                del out[at:]
            case _ if out:
                out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
    return bytes(out)


_TOKEN = re.compile(r"[A-Za-z_][\w-]*|[-+]?[0-9][\w.+-]*|\"[^\"]*\"|\s+|.", re.DOTALL)


def damage_text(text: str, rng: random.Random) -> bytes:
    """Tokens dropped, doubled, exchanged, nested deep, or replaced by odd ones."""
    tokens = _TOKEN.findall(text)
    for _ in range(rng.choice([1, 1, 2, 3])):
        at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        match rng.randrange(8):
            case 0:
                tokens[at] = rng.choice(_NUMBERS)
            case 1:
                tokens[at] = json.dumps(rng.choice(_TEXTS))
            case 2:
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case 3:
                tokens[at] = ""
            case 4:
                tokens[at:at] = tokens[min(at, other) : max(at, other)][:30]
            case 5:
                tokens[at] = rng.choice("([{") * rng.choice([1, 3, 300, 3000])
            case 6:
                tokens[at] = rng.choice(["true", "null", "[]", "{}", "-", ".", "=", ")", "]", "\0"])
            case _:
                tokens[at] = tokens[other]
    return "".join(tokens).encode("utf-8", "surrogatepass")
