"""The Python functions: values of every kind, the answers, and a sentence for everything else."""

from __future__ import annotations

import doctest
import inspect
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import ml_dtypes
import numpy as np
import onnx
import pytest

import refine
import refine.api
from refine.cli.main import cli, run
from refine.results.answers import ExitCode
from refine.results.verdict import Conduct

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "examples" / "demo" / "pendulum.onnx"
VNNLIB = """(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)
(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 -0.5))(assert (<= X_1 1))(assert (>= Y_0 0))
"""
LO = np.array([[-1.0, -0.5]])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.onnx").write_bytes(DEMO.read_bytes())
    (tmp_path / "p.vnnlib").write_text(VNNLIB)
    np.savez(tmp_path / "box.npz", lo=LO, hi=np.ones((1, 2)))
    np.save(tmp_path / "mid.npy", np.zeros((1, 2)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sides(domain: object, **more: Any) -> list[list[float]]:
    """The box that a domain is read as, lower sides and upper ones."""
    result = refine.bound("net.onnx", domain, no_search=True, z3="none", **more)
    (box,) = result.domain.boxes
    return [box.lo["state"].tolist()[0], box.hi["state"].tolist()[0]]


class Tensor:
    """What a tensor of another library looks like."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values, np.float32)
        self.shape = self._values.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self._values

    def item(self) -> float:
        return float(self._values)

    def __repr__(self) -> str:
        return f"Tensor({self._values.tolist()})"


WHOLE = [[-1.0, -0.5], [1.0, 1.0]]
SAME: list[object] = [
    {"state": (LO, 1)},
    {"state": [LO[0], np.ones(2)]},
    {"state": (Tensor(LO), Tensor(1))},
    {"state": (LO.astype(np.float16), np.int64(1))},
    {"state": (LO.astype(ml_dtypes.bfloat16), Decimal(1))},
    (LO, "1"),
    Path("p.vnnlib"),
    "p.vnnlib",
    Path("box.npz"),
    "box.npz",
    ["--box", "box.npz"],
    "--vnnlib p.vnnlib",
]


@pytest.mark.parametrize("domain", SAME, ids=str)
def test_one_domain_in_many_words(folder: Path, domain: object) -> None:
    assert sides(domain) == WHOLE


def test_a_centre_and_a_radius(folder: Path) -> None:
    half = [[-0.5, -0.5], [0.5, 0.5]]
    assert sides(np.zeros((1, 2)), radius=0.5) == half
    assert sides({"state": np.zeros(2)}, radius=np.array([0.5, 0.5])) == half
    assert sides(0, radius="0.5") == half
    assert sides(Path("mid.npy"), radius=0.5) == half
    assert sides(None, center="mid.npy", radius=Fraction(1, 2)) == half
    assert sides(None, center="0", radius=0.5) == half
    assert sides(None, center=np.zeros((1, 2)), radius=0.5) == half
    assert sides(0.0, radius=0.5, clip=(0, "0.25")) == [[0.0, 0.0], [0.25, 0.25]]
    assert sides(Path("mid.npy"), radius=0.5, clip=(0, 0.25)) == [[0.0, 0.0], [0.25, 0.25]]
    assert sides(None, input="-0.5..0.5") == sides(None, input=["state=-0.5..0.5"]) == half
    assert sides(None, vnnlib="p.vnnlib") == sides(None, box=Path("box.npz")) == WHOLE


def test_floats_are_the_numbers_that_they_are_and_text_is_a_decimal(tmp_path: Path) -> None:
    """0.1 as a float is above the decimal 0.1, and a float64 itself."""
    model = tmp_path / "double.fpcore"
    model.write_text("(FPCore (x) :precision binary64 (+ x 1))")
    exact = refine.bound(model, (0, 0.1), no_search=True).domain.boxes[0]
    written = refine.bound(model, "0..0.1", no_search=True).domain.boxes[0]
    assert exact.hi["x"].item() == 0.1
    assert written.hi["x"].item() == np.nextafter(0.1, 0)


def test_a_model_in_many_forms(folder: Path) -> None:
    data = DEMO.read_bytes()
    results = [
        refine.bound(model, "-1..1", no_search=True)
        for model in (
            "net.onnx", Path("net.onnx"), data, bytearray(data), onnx.load(DEMO),
            refine.load("net.onnx"), refine.load(data),
        )
    ]  # fmt: skip
    assert len({r.bound for r in results}) == 1
    assert len({r.graph.sha256 for r in results[:4]}) == 1
    assert [r.graph.source is None for r in results] == [False] * 2 + [True] * 3 + [False, True]
    pairs = refine.diff(data, onnx.load(DEMO), "-1..1", impl_as="real", no_search=True)
    assert pairs.bound == 0
    assert (
        tempfile.gettempdir() not in pairs.to_json()
    )  # no name of a file that was there for a moment


def test_fpcore_as_text_in_bytes(tmp_path: Path) -> None:
    text = b"(FPCore (x) :precision binary64 :pre (<= 1 x 2) (* x x))"
    result = refine.bound(text)
    assert 0 < result.bound < 1e-14


def test_the_document_is_the_one_of_the_command_line(folder: Path) -> None:
    common = ["--input", "state=-1..1", "--eps", "1e-8", "--no-conform", "--budget", "0"]
    run(["check", "net.onnx", *common, "--json", "cli.json", "--counterexample", "c.json"])
    result = refine.check("net.onnx", {"state": "-1..1"}, eps=1e-8, conform=False, budget=0,
                          json="api.json", counterexample="c.json", workers=1)  # fmt: skip
    assert result.to_json() == Path("api.json").read_text()
    assert result.witness_file == Path("c.json")
    mine, theirs = (json.loads(Path(name).read_text()) for name in ("api.json", "cli.json"))

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {k: v for k, v in value.items() if k not in ("seconds", "discharger")}
            return {k: timeless(v) for k, v in kept.items()}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    assert timeless(mine) == timeless(theirs)
    again = refine.replay("c.json")
    assert again
    assert again.violated
    assert "confirmed" in repr(again)


def test_only_verified_is_true(folder: Path) -> None:
    verified = refine.check("net.onnx", "-1..1", eps=1e-3)
    violated = refine.check("net.onnx", "-1..1", eps=1e-9)
    unknown = refine.check("net.onnx", "-1..1", eps=3e-6)
    assert [bool(r) for r in (verified, violated, unknown)] == [True, False, False]
    assert [bool(r.verdict) for r in (verified, violated, unknown)] == [True, False, False]
    assert [r.verdict == "verified" for r in (verified, violated, unknown)] == [True, False, False]
    assert violated.verdict != "verified"
    assert {violated.verdict: 1}["violated"] == 1  # type: ignore[index]
    assert pickle.loads(pickle.dumps(violated.verdict)) is refine.Verdict.VIOLATED
    assert (violated.verdict == None) is False  # noqa: E711
    for other in (True, False, np.True_, "violatd"):
        with pytest.raises(TypeError, match="a verdict is compared with"):
            assert violated.verdict != other
    assert len(repr(violated).splitlines()) == 2
    assert len(repr(violated)) < 400
    assert repr(violated).startswith("violated: bound 0.000")
    assert ">violated</span>" in violated._repr_html_()


def test_a_runtime_that_leaves_the_contract_is_not_true(folder: Path) -> None:
    result = refine.check("net.onnx", "-1..1", eps=1, no_search=True, z3="none")
    left = replace(result, conduct=Conduct("a runtime", 1, False, "a layer differs"))
    assert result
    assert not left
    assert repr(left).startswith("broken (a runtime leaves the contract): verified")


def test_probe_and_conform(folder: Path) -> None:
    found = refine.probe("net.onnx", "numpy", output="numpy.toml")
    assert refine.conform("net.onnx", found, "numpy", samples=3)
    assert refine.conform(DEMO.read_bytes(), Path("numpy.toml"), "numpy", samples=3, input="0..1")
    tight = refine.bound("net.onnx", "-1..1", contract=found, no_search=True)
    assert tight.contract == found.contract
    assert tight.bound < refine.bound("net.onnx", "-1..1", no_search=True).bound


def test_batches(folder: Path) -> None:
    result = refine.check("net.onnx", "-1..1", eps=0, claim="batch-invariant", batch=2,
                          contract="sequential")  # fmt: skip
    assert result.verdict is refine.Verdict.VERIFIED


class Module:
    """What torch.nn.Module looks like from outside."""

    def state_dict(self) -> dict[str, Any]:
        return {}


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


class Unreadable:
    shape = (1, 2)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")


def check(
    model: object = "net.onnx", domain: object = "-1..1", eps: object = 1e-3, **o: Any
) -> Any:
    return refine.check(model, domain, eps, **o)


def bound(model: object = "net.onnx", domain: object = "-1..1", **more: Any) -> refine.Result:
    return refine.bound(model, domain, **more)


def diff(spec: object = "net.onnx", **more: Any) -> refine.Result:
    return refine.diff(spec, "net.onnx", "-1..1", **more)


NAN = float("nan")
FIVE: Any = 5
WRONG: list[tuple[str, Callable[[], object], str]] = [
    (
        "a masked array",
        lambda: refine.bound("net.onnx", np.ma.masked_equal(np.zeros((1, 2)), 0), radius=1),
        "is a masked array: say which numbers stand under the mask",
    ),
    ("no such file", lambda: check("nowhere.onnx"), "'nowhere.onnx' does not exist"),
    ("no file of a path", lambda: check(Path("nowhere.onnx")), "'nowhere.onnx' does not exist"),
    ("a folder", lambda: check("."), "directory"),
    ("a NUL in a path", lambda: check("a\0b.onnx"), "cannot be read"),
    ("no bytes", lambda: check(b""), "<model> is empty"),
    ("bytes that are no model", lambda: check(b"hello"), "<model> is not an ONNX file"),
    ("no message", lambda: check(onnx.ModelProto()), "<model>"),
    ("a module", lambda: check(Module()), "export it to a file with torch.onnx.export"),
    ("None", lambda: check(None), "model is a NoneType; give a path"),
    ("a number", lambda: check(5), "model is a int; give a path"),
    ("an array", lambda: check(np.zeros(3)), "model is a numpy.ndarray"),
    ("a class", lambda: check(Module), "export it to a file"),
    ("a wrong key", lambda: check(domain={"x": (0, 1)}), "no input 'x'; the model has the input"),
    ("a key that is no text", lambda: check(domain={0: (0, 1)}), "there is no input 0"),
    ("no keys", lambda: check(domain={}), "names no input"),
    ("a wrong shape", lambda: check(domain={"state": (np.zeros(3), 1)}), r"shape \[3\]"),
    ("a transposed shape", lambda: check(domain=np.zeros((2, 1)), radius=1), r"shape \[2, 1\]"),
    ("lo above hi", lambda: check(domain={"state": (1, 0)}), r"lo = 1\.0 is above hi = 0\.0"),
    ("one lo above hi", lambda: check(domain=(np.array([0, 2]), 1)), r"'state'\[0, 1\]"),
    ("what has no words", lambda: check(domain=(Unspeakable(), 1)), "is a Unspeakable, and not"),
    ("an array as a choice", lambda: check(z3=np.zeros((2, 2))), r"not array\(\[\[0"),
    ("an integer beyond floats", lambda: check(domain=(10**400, 1)), "above"),
    ("a budget beyond floats", lambda: check(budget=10**400), "budget= is a number of seconds"),
    ("a place with a NUL", lambda: check(json="a\0b"), "a path that no file can have"),
    ("a place of no encoding", lambda: check(json="\ud800"), "a path that no file can have"),
    ("a verdict as a choice", lambda: check(claim=refine.Verdict.VERIFIED), "claim= is one of"),
    ("a matching of no names", lambda: diff(match={"state": np.zeros(2)}), "match= is a mapping"),
    ("NaN", lambda: check(domain={"state": (NAN, 1)}), "bounds are finite"),
    ("NaN in an array", lambda: check(domain=(np.array([0, NAN]), 1)), "bounds are finite"),
    ("infinity", lambda: check(domain=(0, np.inf)), "bounds are finite"),
    ("three numbers", lambda: check(domain={"state": (0, 1, 2)}), r"not a pair \(lo, hi\)"),
    ("a set", lambda: check(domain={1, 2}), "a set is no domain"),
    ("a truth value", lambda: check(domain=(False, True)), "not a number"),
    ("None as a bound", lambda: check(domain=(None, 1)), "None, and not a number"),
    ("text in arrays", lambda: check(domain=(np.array(["a", "b"]), 1)), "has type"),
    ("objects in arrays", lambda: check(domain=(np.array([None, 1]), 1)), "has type"),
    ("complex numbers", lambda: check(domain=(np.zeros(2) * 1j, 1)), "has type"),
    ("a complex number", lambda: check(domain=(1j, 1)), "not a number"),
    ("what gives no array", lambda: check(domain=(Unreadable(), 1)), "requires grad"),
    ("no range", lambda: check(domain="around 0"), "is not a range"),
    ("an empty text", lambda: check(domain=""), "is not a range"),
    ("no such property", lambda: check(domain="no.vnnlib"), r"no\.vnnlib"),
    ("another file", lambda: check(domain=Path("net.onnx")), "is no domain"),
    ("an unknown flag", lambda: check(domain="--inputs x"), "is no option of a domain"),
    ("two domains", lambda: check(vnnlib="p.vnnlib"), "each give a domain"),
    ("two keywords", lambda: check(domain=None, input="0..1", box="b.npz"), "each give a domain"),
    ("no domain", lambda: check(domain=None), "no domain is given"),
    ("no radius", lambda: check(domain=np.zeros((1, 2))), "or radius= around it"),
    ("a NaN radius", lambda: check(domain=np.zeros((1, 2)), radius=NAN), "radius= is nan"),
    ("NaN radii", lambda: check(domain=LO, radius=LO * NAN), "radius= is nan"),
    ("a negative radius", lambda: check(domain=LO, radius=-1), "radius= is negative"),
    ("a radius of no number", lambda: check(domain=LO, radius=[1]), "radius= is"),
    ("a radius around a pair", lambda: check(domain=(0, 1), radius=1), "goes with an array"),
    ("a radius around a range", lambda: check(radius=1), "--radius needs --center"),
    ("a clip that misses", lambda: check(domain=LO, radius=0.1, clip=(5, 6)), "outside clip="),
    ("a clip of no pair", lambda: check(domain=LO, radius=0.1, clip=5), "clip= is 5"),
    ("no eps", lambda: check(eps=None), "check needs eps="),
    ("a negative eps", lambda: check(eps=-1), "positive"),
    ("NaN as eps", lambda: check(eps=NAN), "eps"),
    ("an array as eps", lambda: check(eps=np.ones(2)), "eps= is a number"),
    ("True as eps", lambda: check(eps=True), "eps= is a number"),
    ("an eps of no output", lambda: check(eps={"force": 1}), "names the output 'force'"),
    ("an eps of no output at all", lambda: check(eps={}), "no tolerance for the output torque"),
    ("a misspelt option", lambda: check(tiemout=1), "no option tiemout=; did you mean timeout"),
    ("an unknown option", lambda: check(qqqq=1), "check has no option qqqq=; there are contract"),
    (
        "an option of another",
        lambda: bound(claim="accuracy"),
        "no option claim=",
    ),
    ("a timeout of 0", lambda: check(timeout=0), "timeout= is a positive number of seconds"),
    ("a timeout in words", lambda: check(timeout="5"), "timeout= is a positive"),
    ("a NaN budget", lambda: check(budget=NAN), "budget= is a number of seconds"),
    ("no workers", lambda: check(workers=0), "workers= is an integer from 1"),
    ("half a worker", lambda: check(workers=0.5), "workers= is an integer"),
    ("a negative seed", lambda: check(seed=-1), "seed= is an integer from 0"),
    ("no choice", lambda: check(z3="some"), "z3= is one of none, sample, all"),
    ("a claim of no kind", lambda: check(claim="truth"), "claim= is one of"),
    ("a batch of one", lambda: check(claim="batch-invariant", batch=1), "batch= is an integer"),
    ("subnormals of no kind", lambda: check(subnormals="gone"), "subnormals= is one of"),
    ("an unhashable choice", lambda: check(z3=[]), "z3= is one of"),
    ("a format of no name", lambda: check(format="e1"), "e1"),
    ("a format of no kind", lambda: check(format=np.float32), "format= is"),
    ("an unknown contract", lambda: check(contract="quick"), "no contract 'quick'"),
    ("a contract of no kind", lambda: check(contract=5), "contract= is a contract"),
    ("a search that is none", lambda: check(search=1, no_search=True), "search= does not go"),
    ("a flag of no kind", lambda: check(no_search="yes"), "no_search= is True or False"),
    ("a rounding of no kind", lambda: check(round_inputs=1), "round_inputs= is True or False"),
    ("no folder for a result", lambda: check(json="no/r.json"), "no: No such file"),
    ("a result of no path", lambda: check(json=5), "json= is the path"),
    (
        "a counterexample of bytes",
        lambda: check(DEMO.read_bytes(), counterexample="c.json"),
        "counterexample= needs a model that is a file",
    ),
    ("a contract without its run", lambda: diff(spec_contract="fp16"), "needs spec_as"),
    ("no matching", lambda: diff(match=["a"]), "not NAME=NAME"),
    ("a matching of no kind", lambda: diff(match=5), "match= is a mapping"),
    ("no such output", lambda: diff(match={"a": "b"}), "a"),
    ("a specification of no kind", lambda: diff(5), "spec is a int"),
    ("no runtime", lambda: refine.probe("net.onnx", "tpu"), "no runtime 'tpu'"),
    ("a runtime of no kind", lambda: refine.conform("net.onnx", "fp16", FIVE), "runtime= is text"),
    ("no samples", lambda: refine.conform("net.onnx", "fp16", samples=0), "samples="),
    ("no inputs", lambda: refine.conform("net.onnx", "ieee-any", input=[]), "input= is a range"),
    ("no counterexample", lambda: refine.replay("nowhere.json"), r"nowhere\.json"),
    ("a counterexample of no kind", lambda: refine.replay(5), "file= is the path"),  # type: ignore[arg-type]
    ("a model as counterexample", lambda: refine.replay("net.onnx"), r"net\.onnx"),
    ("a batch of none", lambda: refine.load("net.onnx", batch=0), "batch= is an integer from 1"),
    ("nothing to read", lambda: refine.load(object()), "model is a object"),
    ("places of no kind", lambda: refine.load("net.onnx", allow=5), "allow= is a path"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("wrong", "sentence"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_sentence_for_whatever_is_wrong(
    folder: Path, wrong: Callable[[], object], sentence: str
) -> None:
    with pytest.raises(refine.ModelError, match=sentence) as caught:
        wrong()
    text = str(caught.value)
    assert "\n" not in text
    assert "/tmp/refine-" not in text


def test_a_message_whose_weights_lie_elsewhere(folder: Path) -> None:
    proto = onnx.load("net.onnx")
    onnx.save(proto, "outside.onnx", save_as_external_data=True, size_threshold=0)
    apart = onnx.load("outside.onnx", load_external_data=False)
    with pytest.raises(refine.ModelError, match="in another file"):
        refine.bound(apart, "-1..1")
    assert refine.bound("outside.onnx", "-1..1", no_search=True).bound > 0


_MAPPINGS = {"--shape": "shapes", "--dim": "dims"}  # options that are repeated


@pytest.mark.parametrize("name", ["check", "bound", "diff"])
def test_every_option_of_the_command_line_is_a_keyword(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in [v for v in os.environ if v.startswith("REFINE_")]:
        monkeypatch.delenv(variable)
    command = cli.get_command(cli.make_context("refine", ["-h"], resilient_parsing=True), name)
    assert command is not None
    models = ["spec", "model"] if name == "diff" else ["model"]
    eps = ["--eps", "1"] if name == "check" else []
    read = command.make_context(name, [*models, *eps]).params
    expected = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in (
            "quiet",
            "verbose",
            "eps",
            "help",
            *("preset", "log", "junit", "sarif"),  # of a command line alone
            *("backward", "discrete", "witness", "output", "confidence"),  # answers of their own
        ):
            long = next(o for o in parameter.opts if o.startswith("--"))
            keyword = _MAPPINGS.get(long, long[2:].replace("-", "_"))
            expected[keyword] = read[parameter.name]
    keywords = inspect.signature(getattr(refine, name)).parameters
    given = {n: p.default for n, p in keywords.items() if p.kind is p.KEYWORD_ONLY}
    assert {n: d or None for n, d in expected.items()} == {n: d or None for n, d in given.items()}


def test_the_environment_speaks_to_both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFINE_WORKERS", "many")
    with pytest.raises(refine.ModelError, match="REFINE_WORKERS"):
        refine.bound("net.onnx", "-1..1")


def test_the_public_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refine.__all__ == refine.api.__all__ == sorted(refine.__all__)
    for name in refine.__all__:
        assert getattr(refine, name) is getattr(refine.api, name)
        assert not (ROOT / "refine" / name).exists(), "a module of this name would hide it"
        assert not (ROOT / "refine" / f"{name}.py").exists()
    assert refine.__version__
    assert set(refine.__all__) < set(dir(refine))
    with pytest.raises(AttributeError, match="no attribute 'chekc'"):
        _ = refine.chekc


@pytest.mark.parametrize(
    "module",
    ["refine.api", "refine.claims.outputs.differentiating", "refine.results.answers"],
)
def test_the_examples_in_docstrings(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    outcome = doctest.testmod(sys.modules[module], optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_a_script_without_a_guard_may_use_workers(folder: Path) -> None:
    """Worker processes import no script, which would start its work again."""
    script = folder / "script.py"
    script.write_text(
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from gpu_check.common.detached import DetachedContext\n"
        "with ProcessPoolExecutor(1, DetachedContext()) as pool:\n"
        "    print(pool.submit(len, 'abc').result(), __name__)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=folder,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)  # fmt: skip
    assert (done.stdout, done.returncode) == ("3 __main__\n", 0), done.stderr


def test_threads_wait_for_each_other(folder: Path) -> None:
    """Z3's terms are not to be made by two threads at once: answers would be anything."""
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(refine.check, "net.onnx", "-1..1", eps=1e-3) for _ in range(4)]
        assert [bool(one.result()) for one in asked] == [True] * 4


def test_exit_code_and_truth_agree() -> None:
    assert [bool(v) for v in refine.Verdict] == [
        v.name == ExitCode.VERIFIED.name for v in refine.Verdict
    ]


def test_what_the_calls_give_is_shown_in_a_line() -> None:
    graph = refine.load(DEMO)
    result = refine.check(DEMO, {"state": (-1, 1)}, eps=1e-3)
    outcome = refine.conform(DEMO, "ieee-any", samples=2)
    probed = refine.probe(DEMO, "numpy", samples=2)
    for shown in (graph, result.contract, result.nodes[0], outcome, probed, probed.contract):
        assert len(repr(shown)) < 1500
        assert "\n" not in repr(shown)
    assert "honoured" in repr(outcome)
    document = json.loads(result.to_json())
    assert json.loads(result.contract.to_json()).items() <= document["contract"].items()


def test_a_gradient_is_the_file_that_the_command_writes(folder: Path) -> None:
    words = {"loss": "mse", "wrt": ("weight1", "state"), "step": "sgd", "lr": 0.125}
    made = refine.grad("net.onnx", **words, output="ours.onnx")  # type: ignore[arg-type]
    asked = "--loss mse --wrt weight1,state --step sgd --lr 0.125 -o theirs.onnx -q"
    assert run(["grad", "net.onnx", *asked.split()]) == ExitCode.VERIFIED
    theirs = onnx.load("theirs.onnx")
    assert made == theirs == onnx.load("ours.onnx")
    point = {"state": (0.5, 0.5), "target": (0.25, 0.25)}
    assert refine.bound(made, point, no_search=True, z3="none").bound < 1e-3
    for wrong in ({"wrt": 3}, {"given": [1]}, {"lr": "much"}, {"step_number": 0}, {"loss": 1}):
        with pytest.raises(refine.ModelError):
            refine.grad("net.onnx", **wrong)
