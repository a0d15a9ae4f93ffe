"""Where ONNX's reference evaluator or onnxruntime is known to part from ONNX's text, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from grid_cases import Case


def _flattens(case: Case) -> str:
    shape = case.inputs[0].shape if case.inputs[0] else ()
    axis = case.parameters.get("axis")
    axis = 1 if axis is None else axis
    last = axis % max(len(shape), 1) == len(shape) - 1
    return "" if case.opset >= 13 or last else "before opset 13 axes are flattened; it takes one"


def _global_maximum(case: Case) -> str:
    rank = len(case.inputs[0].shape) if case.inputs[0] else 4
    return "" if rank == 4 else "it reduces the wrong axes unless there are four"


def _response(case: Case) -> str:
    shape = case.inputs[0].shape if case.inputs[0] else (1, 1)
    return "" if shape[0] == shape[1] else "it takes the batch for the number of channels"


def _window(case: Case) -> str:
    given = {k: v for k, v in case.parameters.items() if v is not None}
    mode, strides = given.get("auto_pad", "NOTSET"), given.get("strides", (1,))
    dilated = max(given.get("dilations", (1,))) > 1
    if mode == "SAME_LOWER" and max(strides) > 1:
        return "it rounds the output's extents down"
    if mode == "SAME_LOWER" and "Pool" in case.op:
        return "it takes SAME_LOWER for SAME_UPPER"
    pads = given.get("pads", (0, 0))
    half = len(pads) // 2
    if case.op == "MaxPool" and pads[half - 1] != pads[half]:
        return "it takes its pads axis by axis"
    if mode == "VALID" and dilated:
        return "it leaves dilations out"
    if given.get("ceil_mode") and "Pool" in case.op:
        return "its last window takes elements that are not there"
    return ""


def _transposed(case: Case) -> str:
    given = {k: v for k, v in case.parameters.items() if v is not None}
    if "output_shape" in given and not given.get("auto_pad", "").startswith("SAME"):
        return "pads follow from output_shape, and the reference takes those it is given"
    return "" if given.get("group", 1) == 1 else "it gives one channel to a group"


def _convolved_bytes(case: Case) -> str:
    shape = case.inputs[0].shape if case.inputs[0] else ()
    scales = case.inputs[4]
    one = scales is None or scales.shape in ((), (1,))
    return "" if len(shape) == 4 or one else "it broadcasts scales of channels to four axes"


def _batch(case: Case) -> str:
    return "it moves the mean as in training" if 9 <= case.opset < 14 else ""


def _mean_of_losses(case: Case) -> str:
    given = case.parameters
    if given["reduction"] not in (None, "mean") or len(case.inputs) > 2:
        return ""
    return "" if given["ignore_index"] is None else "it divides by the ignored, too"


def _scores(case: Case) -> str:
    given = case.parameters
    raw = given["qk_matmul_output_mode"] in (None, 0) and given["softcap"]
    return "it caps the scores that are to be raw" if case.outputs == 4 and raw else ""


def _one_pixel(case: Case) -> str:
    half = case.parameters.get("coordinate_transformation_mode") == "pytorch_half_pixel"
    stated = case.parameters.get("scales") is not None
    return "it does not round lengths before it compares them with 1" if half and stated else ""


def _halves(case: Case) -> str:
    return "it always takes off half a pixel" if case.opset < 16 else ""


def _from_before(case: Case) -> str:
    back = min(case.parameters["steps"] or (1,)) < 0 and min(case.parameters["starts"]) < -1
    return "backwards from before the first element it finds nothing, as Python" if back else ""


def _causal(case: Case) -> str:
    if case.outputs == 4 and case.parameters["qk_matmul_output_mode"]:
        return "it writes its lowest number for what is masked"
    if len(case.inputs) > 3 and case.inputs[3] is not None and case.inputs[3].dtype == "bool":
        return "a row that is masked as a whole is 0/0 there"
    masked = len(case.inputs) > 6 and case.inputs[6] is not None
    return "it counts from the end of what is not padded" if masked else ""


def _ngrams(case: Case) -> str:
    given = case.parameters
    moved = given["weights"] and tuple(given["ngram_indexes"]) != tuple(range(7))
    return "it takes the weight of the column, not of the n-gram" if moved else ""


REFERENCE: Mapping[str, Callable[[Case], str]] = {
    "Softmax": _flattens,
    "LogSoftmax": _flattens,
    "GlobalMaxPool": _global_maximum,
    "LRN": _response,
    "Slice": _from_before,
    "Unsqueeze": lambda case: "it inserts axes in the order that is given",
    "Attention": _scores,
    "Resize": _one_pixel,
    "RoiAlign": _halves,
    "BatchNormalization": _batch,
    "NegativeLogLikelihoodLoss": _mean_of_losses,
    "AveragePool": _window,
    "MaxPool": _window,
    "LpPool": _window,
    "Conv": _window,
    "QLinearConv": lambda case: _convolved_bytes(case) or _window(case),
    "ConvInteger": _window,
    "ConvTranspose": _transposed,
    "TfIdfVectorizer": _ngrams,
}

ONNXRUNTIME: Mapping[str, Callable[[Case], str]] = {
    "MeanVarianceNormalization": lambda case: "it divides by a deviation of 0",
    "Attention": _causal,
}


def known_parting(who: str, case: Case) -> str:
    """Why `who`, "reference" or "onnxruntime", is not what the text says here; empty: it is."""
    known = REFERENCE if who == "reference" else ONNXRUNTIME
    return known[case.op](case) if case.op in known else ""
