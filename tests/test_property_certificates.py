"""Certificates of what runs staying out of an unsafe set: accepted as they are written, rejected
with any change that says more, and compared with the file that states the set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
from certified_networks import examples
from test_certificate_mutants import SETTINGS, Made, Mutant, mutants, packed, survivors, told

import refine
from checker.arithmetic import Rejected
from checker.check import check, read_certificate
from refine.cli.main import run

EXAMPLES = {e.name: e for e in examples()}
MODELS = Path(__file__).resolve().parents[2] / "shared" / "models"
NEAR = 1e-4
MOVED = "a coefficient moved"


@dataclass(frozen=True)
class Case:
    """A network and, for each conjunction of its unsafe set, rows of coefficients of its outputs:
    all the inequalities Σ c·Y ≤ d with a d just out of reach, or, if `split`, one that is shown to
    be out of reach only part by part."""

    network: str
    inputs: int
    outputs: int
    unsafe: tuple[tuple[dict[int, str], ...], ...]
    split: bool = False


CASES = {
    "one": Case("dense", 8, 6, (({0: "1", 3: "-0.7"},),)),
    "any": Case("image", 60, 2, (({0: "1"},), ({0: "-1"}, {1: "1", 0: "3"}), ({1: "-0.1"},))),
    "split": Case("moved", 10, 2, (({0: "1", 1: "-1"}, {0: "0.5"}),), split=True),
}


def vnnlib(case: Case, limits: list[list[Fraction]]) -> str:
    lo, hi = EXAMPLES[case.network].domain
    declared = [f"X_{i}" for i in range(case.inputs)] + [f"Y_{i}" for i in range(case.outputs)]
    lines = [f"(declare-const {name} Real)" for name in declared]
    lines += [f"(assert (and (<= X_{i} {hi}) (>= X_{i} {lo})))" for i in range(case.inputs)]
    ways = []
    for part, ends in zip(case.unsafe, limits, strict=True):
        rows = []
        for row, d in zip(part, ends, strict=True):
            left = " ".join(f"(* {c} Y_{i})" for i, c in row.items())
            rows.append(f"(<= (+ {left} 0) {float(d):.17f})")
        ways.append(f"(and {' '.join(rows)})")
    return "\n".join([*lines, f"(assert (or {' '.join(ways)}))"])


def floors(case: Case, path: Path) -> list[list[Fraction]]:
    """Of each row, a number that its left side is proved to stay above."""
    words: Any = SETTINGS | {"contract": EXAMPLES[case.network].contract}
    found = []
    for part in case.unsafe:
        ends = []
        for row in part:
            text = " + ".join(f"{c} * Y[{i}]" for i, c in row.items()) + " >= -1000"
            domain = EXAMPLES[case.network].domain
            result = refine.check(path, domain, claim=text.replace("+ -", "- "), **words)
            assert result.margins is not None
            ends.append(Fraction(result.margins[0].run) - 1000)
        found.append(ends)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Made, Path, Path]]:
    folder = tmp_path_factory.mktemp("properties")

    @cache
    def of(name: str) -> tuple[Made, Path, Path]:
        case = CASES[name]
        path = EXAMPLES[case.network].written(folder)
        step = Fraction(NEAR) * (-100 if case.split else 1)
        limits = [[d - step for d in part] for part in floors(case, path)]
        stated, file = folder / f"{name}.vnnlib", folder / f"{name}.cert"
        stated.write_text(vnnlib(case, limits))
        words: Any = SETTINGS | {"budget": 30 if case.split else 0, "workers": 1}
        result = refine.check(path, vnnlib=stated, claim="property", certificate=file, **words)
        assert result.verdict == "verified"
        assert result.certification is not None
        assert result.certification.file == file, result.certification.outside
        document, arrays = read_certificate(file.read_bytes())
        return Made(path.read_bytes(), document, arrays), path, stated

    return of


def of_unsafe(it: Made) -> Iterator[Mutant]:
    """Changes of the unsafe set after which it is reached, or is none."""
    d, a = it.document, it.arrays
    place = ["claim", "unsafe"]
    for i, part in enumerate(d["claim"]["unsafe"]):
        for k, row in enumerate(part):
            here = [*place, i, k]
            if a["row"][0, i] == k:  # the row that the proof goes by
                end = Fraction(row["at_most"])
                for more in (3 * NEAR, 0.1, 1.0, 1e6)[len(a["row"]) > 1 :]:
                    above = end + Fraction(more)
                    yield told(it, f"d + {more}", [*here, "at_most"], str(above))
                for j, (t, n, c) in enumerate(row["terms"]):
                    for much in (1000, -1000):  # of which one has to bring it into reach
                        moved = [*row["terms"]]
                        moved[j] = [t, n, str(Fraction(c) + much)]
                        yield told(it, f"{MOVED} {i} {k} {j}", [*here, "terms"], moved)
                yield told(it, "all turned", here, {**row, "at_most": str(100 - end)} | {
                    "terms": [[t, n, str(-Fraction(c))] for t, n, c in row["terms"]]})  # fmt: skip
                yield told(it, "no terms", [*here], {**row, "terms": [], "at_most": "0"})
            first = row["terms"][0]
            for other in (["nothing", 0, "1"], [first[0], 10**6, "1"], [first[0], -1, "1"], first,
                          [first[0], 0.5, "1"], [first[0], "0", "1"], [0, 0, "1"]):  # fmt: skip
                yield told(it, f"a term {other}", [*here, "terms"], [*row["terms"], other])
            for one in (False, True, float(first[1])):  # equal to an element, and no integer
                changed = [[first[0], one, first[2]], *row["terms"][1:]]
                yield told(it, f"element {one}", [*here, "terms"], changed)
            for text in ("nan", "", "1/0", "inf", [1]):
                yield told(it, f"d {text}", [*here, "at_most"], text)
                changed = [[first[0], first[1], text], *row["terms"][1:]]
                yield told(it, f"c {text}", [*here, "terms"], changed)
            for key in row:
                yield told(it, f"without {key}", [*here, key], None)
            yield told(it, "strict by name", [*here, "strict"], "no")
            yield told(it, "more of a row", [*here, "more"], 0)
        for k in (len(part), -1, 10**6):
            rows = a["row"].copy()
            rows[-1, i] = k
            yield f"row {k}", d, a | {"row": rows}
        yield told(it, "no rows", [*place, i], [])
        yield told(it, "a conjunction less", [*place, i], None)
        yield told(it, "one twice", place, [*d["claim"]["unsafe"], part])
    unsafe = deepcopy(d["claim"]["unsafe"])
    yield told(it, "nothing unsafe", place, [])
    yield told(it, "another order", place, [*unsafe[1:], unsafe[0], [unsafe[0][0]]])
    whole = [{"terms": [], "at_most": "0", "strict": False}]
    for k in range(len(unsafe)):
        yield told(it, "all is unsafe", [*place, k], whole)
    yield told(it, "as an accuracy", ["claim"], {"kind": "accuracy", "eps": {"y": "1"}})
    yield told(it, "more of a claim", ["claim", "eps"], {})
    yield "no rows", d, {k: v for k, v in a.items() if k != "row"}
    yield "rows as floats", d, a | {"row": a["row"].astype(float)}


@pytest.mark.parametrize("name", CASES)
def test_changed_properties_are_rejected(
    name: str, made: Callable[[str], tuple[Made, Path, Path]]
) -> None:
    it, _, stated = made(name)
    with np.errstate(all="ignore"):
        said = check(packed(it.document, it.arrays), it.model, stated.read_bytes())
        assert said.startswith("never, over the reals or as it runs,")
        assert (len(it.arrays["row"]) > 1) == CASES[name].split
        with pytest.raises(Rejected, match="a property with another hash"):
            check(packed(it.document, it.arrays), it.model, stated.read_bytes() + b"\n")
    tried, alive = survivors(it, of_unsafe(it))
    one_side = [name for name in alive if name.startswith(MOVED)]
    assert [name for name in alive if name not in one_side] == []
    assert len(set(one_side)) == len(one_side)
    assert tried > 40
    tried, alive = survivors(it, mutants(it, lambda it: iter(())))
    assert alive == []
    assert tried > 100


def test_recheck_compares_the_file(
    made: Callable[[str], tuple[Made, Path, Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    it, model, stated = made("any")
    file = tmp_path / "it.cert"

    def answer(document: Any, *more: str) -> tuple[int, str]:
        others = {**document, "by": {"others": "1"}}  # which have no record of lemmas
        file.write_bytes(packed(others, it.arrays))
        code = run(["recheck", str(file), str(model), *more]).value
        return code, capsys.readouterr().out

    code, said = answer(it.document, "--vnnlib", str(stated))
    assert (code, said.splitlines()[-1]) == (
        0,
        f"its unsafe set and its domain are those of {stated}",
    )
    assert said.startswith("accepted: never, over the reals or as it runs,\n     1*t6[0] <= ")
    assert "box 0: 'x' in 60 elements between 0 and 1, each at most 1 wide\n" in said
    assert "\ncontract ieee-any: " in said
    named = deepcopy(it.document)
    named["contract"]["name"] = "cuda-tf32"  # a name is no contract
    assert "not refine's preset of that name" in answer(named)[1]
    weaker = deepcopy(it.document)  # true, and not what the file says
    weaker["claim"]["unsafe"][0][0]["at_most"] = "-1000"
    assert answer(weaker)[0] == 0
    code, said = answer(weaker, "--vnnlib", str(stated))
    assert (code, said.splitlines()[-1]) == (
        1,
        f"rejected: the certificate is of another unsafe set than {stated}",
    )
    smaller = deepcopy(it.arrays)
    narrow = Made(it.model, it.document, smaller | {"box_lo0": 0.5 * smaller["box_hi0"]})
    it = narrow
    code, said = answer(it.document, "--vnnlib", str(stated))
    assert code == 1, "its claims are of the whole domain, so that it may be accepted without"
    assert said.splitlines()[-1].startswith("rejected: the certificate is of another domain than")


def test_labels_and_inequalities_have_certificates(tmp_path: Path) -> None:
    path = EXAMPLES["image"].written(tmp_path)
    for claim, begins in (("argmax", "1*t6[0] + -1*t6[1] <"), ("Y[1] <= 5", "-1*t6[1] < -5")):
        file = tmp_path / "it.cert"
        words: Any = SETTINGS | {"claim": claim, "certificate": file}
        result = refine.check(path, (0.3, 0.31), **words)
        assert result.verdict == "verified"
        assert result.certification is not None
        assert result.certification.outside is None
        with np.errstate(all="ignore"):
            said = check(file.read_bytes(), path.read_bytes())
        assert said.splitlines()[1].strip().startswith(begins)


def test_ties_are_decided_as_argmax_decides_them(tmp_path: Path) -> None:
    """An element before the label is another label where both are equal, one behind it is not."""
    file, path = tmp_path / "it.cert", EXAMPLES["image"].written(tmp_path)
    words: Any = SETTINGS | {"claim": "argmax", "certificate": file}
    refine.check(path, (0.3, 0.31), **words)
    document, _ = read_certificate(file.read_bytes())
    (row,) = document["claim"]["unsafe"][0]
    (first, _, _), (other, place, _) = row["terms"]
    assert first == other == "t6"
    assert row["strict"] is (place > 0)


def test_inputs_are_those_of_the_model_in_its_order(tmp_path: Path) -> None:
    """Boxes are numbered: with names exchanged they would be those of other inputs."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 19]>
        net (float[1] a, float[1] b) => (float[1] y) { y = Sub (a, b) }"""
    )
    path, file = tmp_path / "m.onnx", tmp_path / "it.cert"
    path.write_bytes(model.SerializeToString())
    domain = {"a": (0.0, 1.0), "b": (5.0, 6.0)}
    words: Any = SETTINGS | {"claim": "Y[0] <= -1", "certificate": file}
    assert refine.check(path, domain, **words).verdict == "verified"
    document, arrays = read_certificate(file.read_bytes())
    assert check(packed(document, arrays), path.read_bytes())
    for inputs in (document["inputs"][::-1], [*document["inputs"], document["inputs"][0]]):
        with pytest.raises(Rejected, match="the inputs, lemmas or tensors"):
            check(packed({**document, "inputs": inputs}, arrays), path.read_bytes())


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")
@pytest.mark.parametrize("name", ["prop_0_0.03", "prop_3_0.03"])
def test_published_properties(name: str, tmp_path: Path) -> None:
    model, file = MODELS / "mnist_fc" / "mnist-net_256x4.onnx", tmp_path / "it.cert"
    stated = MODELS / "mnist_fc" / f"{name}.vnnlib"
    words: Any = SETTINGS | {"claim": "property", "certificate": file}
    assert refine.check(model, vnnlib=stated, **words).verdict == "verified"
    assert run(["recheck", str(file), str(model), "--vnnlib", str(stated)]).value == 0
