"""The model that onnxruntime really runs: saved after its own optimisations.

FusedGemm and FusedConv with Relu are written as the two operators they stand for: Relu rounds
nothing, so nothing is lost. Other operators of onnxruntime's own are read as those that they put
together, where they have a meaning here. Convolutions keep the layout that the file has: what
onnxruntime computes in blocks of channels is the same function, its sums in another order.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from encoders.contract.contract import AnyOrder, RuntimeContract
from gpu_check.common.writing import write_whole
from gpu_check.runtimes.runtimes import RuntimeUnavailable, save_optimised
from onnx_import.errors import ModelError
from onnx_import.files import is_json
from onnx_import.graph import DType, Graph
from onnx_import.onnx.foreign import is_known
from onnx_import.onnx.numeric import with_numeric_outputs
from onnx_import.onnx.proto import read_proto

_FUSED = ("FusedGemm", "FusedConv")


def as_optimised(model: Path, level: str | None, allowed: tuple[Path, ...] = ()) -> Path:
    """`model` itself without a level, else the optimised file, written to the current folder.

    Raises ModelError where onnxruntime refuses the model, or makes operators of its own from it
    that have no meaning here.
    """
    if level is None:
        return model
    if not model.is_file() or is_json(model):
        raise ModelError(f"{model}: --as-optimised needs an ONNX file")
    target = Path(f"{model.stem}.{level}.onnx")
    if target.exists() and target.resolve() == model.resolve():
        raise ModelError(f"{model}: this file is what --as-optimised {level} would write")
    return optimised_into(model, level, target, allowed)


def optimised_into(model: Path, level: str, target: Path, allowed: tuple[Path, ...] = ()) -> Path:
    """As `as_optimised`, written to `target`, which is returned."""
    read_proto(model, allowed)  # onnxruntime would open whatever it names
    with TemporaryDirectory() as folder:
        made = Path(folder) / "optimised.onnx"
        try:
            save_optimised(model, level, made)
        except RuntimeUnavailable as error:
            raise ModelError(str(error)) from error
        proto = onnx.load(str(made))
    _undo_simple_fusions(proto)
    write_whole(target, lambda file: file.write(proto.SerializeToString()))
    numbers, _ = with_numeric_outputs(proto)
    own = [n for n in numbers.graph.node if not is_known(n.domain, n.op_type)]
    if own:
        node = own[0]
        raise ModelError(
            f"onnxruntime's optimised model, {target}, has node '{node.name}' "
            f"({node.domain}.{node.op_type}), an operator of onnxruntime's own without a meaning "
            "here: use a lower level of --as-optimised, or run with optimisations off"
        )
    return target


def said_of(graph: Graph, contract: RuntimeContract, level: str | None) -> Graph:
    """The optimised graph, with a note on what onnxruntime does at this level that is left out."""
    convolved = any(
        node.op == "Conv" and graph.types[node.outputs[0]].dtype is DType.FLOAT32
        for node in graph.order
    )
    if level != "all" or not convolved:
        return graph
    opened = isinstance(contract.order, AnyOrder) and not contract.rules
    covered = (
        "which this contract leaves open" if opened else
        f"of which contract '{contract.name}' says nothing: this answer is about the file written"
    )  # fmt: skip
    note = (
        "--as-optimised all: blocks of channels (NCHWc), in which onnxruntime computes "
        "convolutions where the processor has them, were switched off to write this file; they add "
        f"up the same terms in another order, {covered}"
    )
    return replace(graph, notes=(*graph.notes, note))


def _undo_simple_fusions(proto: onnx.ModelProto) -> None:
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        attributes = {a.name: a for a in node.attribute}
        activation = attributes["activation"].s if "activation" in attributes else b""
        three = len(node.input) <= 3  # FusedConv may also add a tensor before its activation
        if node.op_type in _FUSED and activation == b"Relu" and three:
            kept = [a for name, a in attributes.items() if not name.startswith("activation")]
            inner = f"{node.output[0]}/before-relu"
            plain = onnx.NodeProto()
            plain.CopyFrom(node)
            plain.op_type, plain.domain = node.op_type.removeprefix("Fused"), ""
            del plain.attribute[:]
            plain.attribute.extend(kept)
            plain.output[0] = inner
            relu = onnx.helper.make_node("Relu", [inner], list(node.output), f"{node.name}/relu")
            nodes += [plain, relu]
        else:
            nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
