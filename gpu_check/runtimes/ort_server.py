"""What the process does that runs onnxruntime: it answers requests, one after the other.

It is started by `gpu_check.runtimes.isolated` with two pipes, and imports little, so that it starts
soon. A request is a name and its arguments; an answer is a word and a value (docs at `Answers`).
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import pickle
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_check.common.children import start_worker

_BFLOAT16_CODE = 16  # ONNX's name of it
_TYPED = {
    "tensor(bfloat16)": "bfloat16",
    "tensor(float8e4m3fn)": "float8_e4m3fn",
    "tensor(float8e4m3fnuz)": "float8_e4m3fnuz",
    "tensor(float8e5m2)": "float8_e5m2",
    "tensor(float8e5m2fnuz)": "float8_e5m2fnuz",
}
"""onnxruntime's names of types that numpy itself lacks, and ml_dtypes' names of them."""
LENGTH = struct.Struct(">Q")
_LAYOUTS = ["NchwcTransformer"]  # whose blocks depend on the processor, and compute the same
BOUNDARY = 64  # bytes; onnxruntime's own tensors begin at multiples of it
OK, REFUSED, UNKNOWN, MEMORY, MISSING = "ok", "refused", "unknown", "memory", "missing"

Held = tuple[npt.NDArray[Any], int]
"""An array, and how many bytes past a boundary its numbers begin."""


def placed(values: npt.NDArray[Any], past: int) -> npt.NDArray[Any]:
    """The same numbers, so many bytes past a boundary in memory."""
    room = np.zeros(values.nbytes + BOUNDARY + past, np.uint8)
    start = -room.ctypes.data % BOUNDARY + past
    held = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    held[...] = values
    return held


@dataclass
class Answers:
    """Open sessions by key, and what is answered: OK and a value, REFUSED and onnxruntime's own
    words, UNKNOWN for a session that is not open, MEMORY, MISSING and why where there is no
    onnxruntime."""

    sessions: dict[int, Any] = field(default_factory=dict)

    def to(self, name: str, arguments: Sequence[Any]) -> tuple[str, Any]:
        """The outcome of one request, its kind before its value; nothing that onnxruntime raises
        escapes."""
        try:
            library = _library()
        except ImportError as error:
            return MISSING, str(error)
        try:
            match name:
                case "version":
                    return OK, str(library.__version__)
                case "open":
                    return OK, self._open(library, *arguments)
                case "run":
                    return self._run(library, *arguments)
                case "optimise":
                    _optimise(library, *arguments)
                    return OK, None
                case "close":
                    return OK, [self.sessions.pop(key, None) is not None for key in arguments]
        except MemoryError:
            return MEMORY, ""
        except Exception as error:  # onnxruntime's own classes share no base but Exception
            return REFUSED, str(error)
        raise ValueError(f"there is no request '{name}'")

    def _open(
        self, library: Any, key: int, model: bytes | str, level: str, threads: int, flush: bool
    ) -> Sequence[tuple[str, tuple[int | str | None, ...]]]:
        """The model's inputs, by name and shape, of a session that is then open."""
        settings = _settings(library, level)
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        if flush:
            settings.add_session_config_entry("session.set_denormal_as_zero", "1")
        session = library.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        self.sessions[key] = session
        return [(i.name, tuple(i.shape)) for i in session.get_inputs()]

    def _run(self, library: Any, key: int, inputs: Mapping[str, Held]) -> tuple[str, Any]:
        session = self.sessions.get(key)
        if session is None:
            return UNKNOWN, None
        options = library.RunOptions()
        options.log_severity_level = 4
        names = [o.name for o in session.get_outputs()]
        feeds = {name: placed(values, past) for name, (values, past) in inputs.items()}
        kinds = [value.type for value in (*session.get_inputs(), *session.get_outputs())]
        if any(kind in _TYPED for kind in kinds):
            found = _run_typed(library, session, names, feeds, options)
        else:
            found = session.run(names, feeds, options)
        return OK, dict(zip(names, found, strict=True))


def _run_typed(
    library: Any,
    session: Any,
    names: Sequence[str],
    feeds: Mapping[str, npt.NDArray[Any]],
    options: Any,
) -> list[npt.NDArray[Any]]:
    """The same where onnxruntime takes and gives numbers of a type that numpy itself lacks: they go
    in as their bits, and are copied out of onnxruntime's memory."""
    import ml_dtypes

    short = np.dtype(ml_dtypes.bfloat16)
    kinds = {kind: np.dtype(getattr(ml_dtypes, name)) for kind, name in _TYPED.items()}
    make = library.OrtValue.ortvalue_from_numpy_with_onnx_type
    bits = {name: v.view(np.uint16) if v.dtype == short else v for name, v in feeds.items()}
    held = {
        name: make(v, _BFLOAT16_CODE)
        if feeds[name].dtype == short
        else library.OrtValue.ortvalue_from_numpy(v)
        for name, v in bits.items()
    }
    outputs = []
    for value in session.run_with_ort_values(list(names), held, options):
        kind = kinds.get(value.data_type())
        if kind is not None:
            shape = tuple(value.shape())
            size = math.prod(shape) * kind.itemsize
            copied = ctypes.string_at(value.data_ptr(), size) if size else b""
            outputs.append(np.frombuffer(copied, kind).reshape(shape))
        else:
            outputs.append(value.numpy())
    return outputs


def _optimise(library: Any, model: str, level: str, target: str) -> None:
    settings = _settings(library, level)
    settings.optimized_model_filepath = target
    library.InferenceSession(
        model, settings, providers=["CPUExecutionProvider"], disabled_optimizers=_LAYOUTS
    )


def _settings(library: Any, level: str) -> Any:
    settings = library.SessionOptions()
    settings.graph_optimization_level = getattr(library.GraphOptimizationLevel, level)
    settings.log_severity_level = 4
    return settings


def _library() -> Any:
    import onnxruntime

    return onnxruntime


def main() -> None:
    """Arguments: sys.path as JSON, the pipes to read from and to write to, the parent's id."""
    hearing, telling, parent = (int(text) for text in sys.argv[2:5])
    start_worker(parent)
    answers = Answers()
    with os.fdopen(hearing, "rb") as requests, os.fdopen(telling, "wb") as replies:
        while head := requests.read(LENGTH.size):
            name, arguments = pickle.loads(requests.read(LENGTH.unpack(head)[0]))
            body = pickle.dumps(answers.to(name, arguments), pickle.HIGHEST_PROTOCOL)
            replies.write(LENGTH.pack(len(body)))
            replies.write(body)
            replies.flush()


START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
START += f"from {__name__} import main; main()"


def command(hearing: int, telling: int, parent: int) -> list[str]:
    """What starts the process, with the imports of this one and without its startup files."""
    paths = json.dumps(sys.path)
    return [sys.executable, "-I", "-c", START, paths, str(hearing), str(telling), str(parent)]
