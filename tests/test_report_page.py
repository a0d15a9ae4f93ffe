"""The page of a result: every number on it is that of the JSON document, and it needs nothing
else."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from small_models import mlp, save

import refine
from encoders.contract.contract import Pairwise, RuntimeContract
from encoders.contract.presets import IEEE_ANY
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BINARY64
from encoders.program import Step
from onnx_import import load
from refine.bounds.local.errors import Run
from refine.bounds.network import InputBox, network_bounds
from refine.cli.main import run
from refine.results.page.writing import DATA

NARROW, WIDE = 400, 1280  # pixels
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
MEASURE = """<script>addEventListener("load",()=>{const r=[...document.querySelectorAll("svg g")]
.map(g=>g.getBoundingClientRect()),t=[];for(const [i,a] of r.entries())for(const b of r.slice(i+1))
if(a.left<b.right-1&&b.left<a.right-1&&a.top<b.bottom-1&&b.top<a.bottom-1)t.push(1);
document.title=`${document.documentElement.scrollWidth} ${innerWidth} ${t.length} ${r.length}`})
</script>"""


@dataclass
class Page(HTMLParser):
    """The numbers of a page with what is shown of them, its data, and its tags."""

    numbers: list[tuple[str, str, str]] = field(default_factory=list)
    data: str = ""
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    words: str = ""
    open: list[tuple[str, str] | None] = field(default_factory=list)
    in_data: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {k: v or "" for k, v in attrs}
        self.tags.append(tag)
        self.attributes += given.items()
        self.in_data = given.get("id") == DATA
        if "data-at" in given:
            self.open.append((given["data-at"], given["data-value"]))

    def handle_endtag(self, tag: str) -> None:
        self.in_data = False

    def handle_data(self, data: str) -> None:
        if self.in_data:
            self.data += data
            return
        self.words += data
        if self.open:
            place = self.open.pop()
            assert place is not None
            self.numbers.append((*place, data))


def read(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    return page


def at(document: Any, pointer: str) -> Any:
    found = document
    for key in pointer.split("/")[1:]:
        key = key.replace("~1", "/").replace("~0", "~")
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found


def deep(folder: Path) -> Path:
    """Layers that meet again, and one edge that passes several of them."""
    rng = np.random.default_rng(3)
    weights = {f"w{i}": rng.normal(size=(6, 6)).astype(np.float32) for i in range(3)}
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="<script>alert(1)</script>"),
        helper.make_node("MatMul", ["b", "w1"], ["c"], name="left & right"),
        helper.make_node("Sigmoid", ["c"], ["d"], name="bent"),
        helper.make_node("MatMul", ["a", "w2"], ["e"], name="beside"),
        helper.make_node("Add", ["d", "e"], ["f"], name="met"),
        helper.make_node("Add", ["f", "a"], ["y"], name="last"),
    ]
    return save(folder / "deep.onnx", nodes, {"x": [1, 6]}, {"y": [1, 6]}, weights)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, refine.Result]:
    folder = tmp_path_factory.mktemp("pages")
    net, other = mlp(folder / "net.onnx", (2, 8, 3)), mlp(folder / "other.onnx", (2, 8, 3), seed=1)
    prop = folder / "prop.vnnlib"
    declared = [f"(declare-const {x} Real)" for x in ("X_0", "X_1", "Y_0", "Y_1", "Y_2")]
    limits = ["(assert (<= X_0 1))", "(assert (>= X_0 0))", "(assert (<= X_1 1))"]
    prop.write_text("\n".join([*declared, *limits, "(assert (>= X_1 0))", "(assert (<= Y_0 -99))"]))
    usual: dict[str, Any] = {"z3": "none", "conform": False}
    brief = {**usual, "search": 0.3}
    wide = save(
        folder / "wide.onnx",
        [helper.make_node("Exp", ["x"], ["y"], name="exp")],
        {"x": [1, 70, 70]},
        {"y": [1, 70, 70]},
    )
    return {
        "bound": refine.bound(deep(folder), "-1..1", no_search=True, **usual),
        "check": refine.check(net, "-1..1", eps=1e-8, **brief),
        "two eps": refine.check(net, "-1..1", eps={"y": "1e-3"}, no_search=True, **usual),
        "diff": refine.diff(net, other, "-1..1", eps=1e-3, **brief),
        "property": refine.check(net, claim="property", vnnlib=prop, **brief),
        "wide": refine.bound(wide, "-1..1", no_search=True, **usual),
        "unbounded": refine.bound(wide, "0..1000", no_search=True, **usual),
    }


def test_every_number_is_that_of_the_document(results: dict[str, refine.Result]) -> None:
    for name, result in results.items():
        document = json.loads(result.to_json())
        page = read(result.to_html())
        assert json.loads(page.data) == document, name
        assert len(page.numbers) > 5, name
        for pointer, value, shown in page.numbers:
            held = at(document, pointer)
            assert str(held) == value, (name, pointer)
            assert is_about(shown, float(held), pointer), (name, pointer, held, shown)
        assert document["verdict"] in page.words
        assert not page.open, name


def is_about(shown: str, held: float, pointer: str) -> bool:
    """Is what is shown this number, rounded the safe way?"""
    if shown.endswith(" %"):
        return abs(float(shown[:-2]) / 100 - held) <= 0.0005 + 1e-9
    if shown in ("∞", "−∞"):
        return held == (math.inf if shown == "∞" else -math.inf)
    off = float(shown) - held
    key = pointer.split("/")[-1]
    if key in ("error", "local_error", "change_error", "bound") or pointer.startswith("/bounds/"):
        assert off >= 0
    if key in ("margin", "margin_over_reals", "worst_found"):
        assert off <= 0
    return abs(off) <= 0.011 * abs(held)


def test_what_a_page_has(results: dict[str, refine.Result]) -> None:
    pages = {name: read(result.to_html()) for name, result in results.items()}
    shown = {name: {pointer for pointer, _, _ in page.numbers} for name, page in pages.items()}
    assert {f"/bounds/y/0/{i}" for i in range(6)} <= shown["bound"]
    assert {f"/nodes/{i}/{k}" for i in range(7) for k in ("error", "share")} <= shown["bound"]
    assert "/remedies/0/bound" in shown["bound"]
    layers = len(results["check"].graph.order)
    assert {f"/counterexample/layers/{i}/value" for i in range(layers)} <= shown["check"]
    assert "/eps/y" in shown["two eps"]
    assert "/margins/0/margin" in shown["property"]
    assert "|model(x) − spec(x)|" in pages["diff"].words
    assert "No bound is known" in pages["unbounded"].words
    assert "no error is bounded" in pages["unbounded"].words
    assert 0 < pages["wide"].tags.count("rect") < 2100  # 4900 elements in blocks


def test_a_page_needs_nothing_else(results: dict[str, refine.Result]) -> None:
    for result in results.values():
        text = result.to_html()
        page = read(text)
        assert page.tags.count("script") == 1  # the data, and none that a model's name smuggled in
        assert not {"link", "img", "iframe", "object", "embed"} & set(page.tags)
        assert not {"src", "href", "srcset", "onload"} & {name for name, _ in page.attributes}
        style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
        assert "url(" not in style
        assert "@import" not in style
        assert len(text) < 1_000_000
    assert "<script>alert(1)</script>" in read(results["bound"].to_html()).words


def test_a_notebook_shows_the_same(results: dict[str, refine.Result]) -> None:
    for result in results.values():
        shown, page = read(result._repr_html_()), read(result.to_html())
        assert shown.numbers == page.numbers
        assert shown.data == ""
        assert "body" not in shown.tags


def test_the_account_of_the_layers_adds_up(results: dict[str, refine.Result]) -> None:
    for name in ("bound", "check", "diff"):
        nodes = results[name].nodes
        assert sum(n.share for n in nodes) == pytest.approx(1, abs=1e-6)
        for n in nodes:
            assert n.rounding_share + n.relaxation_share == pytest.approx(n.share)
            assert n.local + n.change + n.inherited >= n.error * (1 - 1e-12)
        tensors = {t for n in nodes for t in n.writes}
        assert all(set(n.reads) <= tensors | {"x"} for n in nodes)
    bent = {n.op: n.relaxation_share for n in results["bound"].nodes}
    assert bent["MatMul"] == bent["Add"] == 0
    assert bent["Sigmoid"] > 0


def test_layers_of_a_counterexample(results: dict[str, refine.Result]) -> None:
    """The last is the counterexample's own error; each is within the bound of its node."""
    result = results["check"]
    witness = result.witness
    assert witness is not None
    bounds = {n.name: n.error for n in result.nodes}
    assert [layer.name for layer in witness.layers] == [n.name for n in result.graph.order]
    assert all(0 <= layer.error.hi <= bounds[layer.name] for layer in witness.layers)
    last = witness.layers[-1]
    assert (last.tensor, last.index, last.value) == (witness.output, witness.index, witness.value)
    assert last.error.lo <= witness.error.hi
    assert witness.error.lo <= last.error.hi
    weights = {t: np.asarray(v, np.float64) for t, v in result.graph.constants.items()}
    gemm = result.graph.order[0]
    first, x = witness.layers[0], np.asarray(witness.inputs["x"], np.float64)
    w = weights[gemm.inputs[1]]
    y = x @ (w.T if gemm.attributes.get("transB") else w) + weights[gemm.inputs[2]]
    assert first.real is not None
    assert float(first.real.lo) == pytest.approx(float(y[first.index]))


def test_layers_of_a_difference(results: dict[str, refine.Result]) -> None:
    """Beside the specification's tensors: the last error is the counterexample's."""
    witness = results["diff"].witness
    assert witness is not None
    last = witness.layers[-1]
    assert len(witness.layers) == 3
    assert float(last.error.lo) == pytest.approx(float(witness.error.lo))
    assert float(witness.layers[0].error.lo) > 0.01


def test_a_remedy_gives_its_bound(results: dict[str, refine.Result]) -> None:
    """Of precision and order: another pass, in which this one node runs under another contract."""
    result = results["bound"]
    graph = load(str(result.graph.source))
    box = InputBox({"x": Interval(-np.ones((1, 6)), np.ones((1, 6)))}, {"x": np.zeros((1, 6))})
    changed = {
        "computed in float64, its result rounded once": replace(IEEE_ANY, accumulation=BINARY64),
        "its sums pairwise": replace(IEEE_ANY, order=Pairwise()),
    }
    tried = [r for r in result.remedies if r.change in changed]
    assert tried
    for remedy in tried:

        def runs(step: Step, held: Any, of: str = remedy.node, how: str = remedy.change) -> Run:
            contract: RuntimeContract = changed[how] if step.name == of else IEEE_ANY
            return Run(step, np.zeros(()), contract)

        found = network_bounds(graph, box, contract=IEEE_ANY, runs=runs).largest
        assert found <= remedy.bound * (1 + 1e-9)
        assert found == pytest.approx(remedy.bound, rel=0.25)


def test_files_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mlp(Path("net.onnx"))
    asked = ["net.onnx", "--input=-1..1", "--no-search", "--z3=none", "--json=r.json", "-q"]
    assert run(["bound", *asked, "--report=at-once.html"]).value == 0
    assert run(["report", "r.json"]).value == 0
    assert Path("r.html").read_text() == Path("at-once.html").read_text()
    assert run(["report", "r.json", "-o", "there.html"]).value == 0
    assert Path("there.html").read_text() == Path("r.html").read_text()
    found = refine.bound("net.onnx", "-1..1", no_search=True, z3="none", report="python.html")
    assert "/bound" in {p for p, _, _ in read(Path("python.html").read_text()).numbers}
    assert found


def broken(document: dict[str, Any]) -> Iterator[Any]:
    yield 3
    yield {"schema": "another"}
    for key in document:
        if key not in ("bounds_hex", "eps_hex", "bound_hex", "worst_found_hex", "pairing"):
            yield {k: v for k, v in document.items() if k != key}
            yield {**document, key: 7 if key not in ("seed", "seconds", "bound", "eps") else {}}


def test_what_is_no_result_is_refused_in_a_sentence(
    results: dict[str, refine.Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "r.json"
    codes = []
    for document in broken(json.loads(results["check"].to_json())):
        place.write_text(json.dumps(document))
        codes.append(run(["report", str(place), "-o", str(tmp_path / "r.html")]).value)
        err = capsys.readouterr().err
        assert (codes[-1] == 2) == bool(err), err
        assert err.count("\n") <= 1
    assert codes[:2] == [2, 2]
    assert codes.count(2) > len(codes) // 2


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_in_a_browser(results: dict[str, refine.Result], tmp_path: Path, width: int) -> None:
    """Nothing reaches beyond the window, and no nodes of the graph lie upon each other."""
    for name in ("bound", "check"):
        place = tmp_path / f"{name}.html"
        framed = tmp_path / f"{name}-frame.html"
        place.write_text(results[name].to_html().replace("</body>", f"{MEASURE}</body>"))
        framed.write_text(
            f'<iframe id=f width={width} height=900 style="border:0" src="{place.name}"></iframe>'
            "<script>f.onload=()=>setTimeout(()=>document.body.append("
            "'measured '+f.contentDocument.title+' end'),50)</script>"
        )
        seen = subprocess.run(
            [
                str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu",
                "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}",
                "--virtual-time-budget=3000", "--dump-dom", framed.as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        measured = re.search(r"measured (\d+) (\d+) (\d+) (\d+) end", seen.stdout)
        assert measured is not None, seen.stderr[-500:]
        across, window, overlaps, nodes = map(int, measured.groups())
        assert window == width
        assert across <= width, name
        assert overlaps == 0
        assert nodes == len(results[name].nodes)
