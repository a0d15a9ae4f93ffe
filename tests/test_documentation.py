"""The documentation: it builds, its links lead somewhere, and what it says of commands, files,
rooms and lemmas is so."""

from __future__ import annotations

import dataclasses
import doctest
import importlib.util
import itertools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from test_architecture import ROOMS

import refine
from encoders.contract.functions import CORRECTLY_ROUNDED, TABLES
from encoders.contract.presets import PRESETS
from encoders.contract.table import ContractError, contract_of_table
from encoders.functions.accuracy import FunctionAccuracy
from refine.claims.registry import checked_claims
from refine.cli.main import SUMMARIES, cli
from refine.lemmas.library import library
from refine.results.answers import ExitCode
from refine.results.obligation import Kind
from refine.zoo import Entry

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(DOCS.rglob("*.md")),
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
FOLDERS = (
    "onnx_import",
    "encoders",
    "gpu_check",
    "refine",
    "tests",
    "benchmarks",
    "examples",
    "docs",
)
MADE = {"build/site", "fuzz-findings/"}  # by the commands that are described
PLACEHOLDER = re.compile(r"[A-Z][A-Z_0-9]*(\.\w+)?|.*…|.*=.*[A-Z]$|[A-Z.]+|NAME:SETTINGS")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def spans(page: Path) -> list[str]:
    """What stands between single backquotes, outside of fences."""
    return SPAN.findall(FENCE.sub("", text_of(page)))


def anchors(page: Path) -> set[str]:
    """The names that a page's headings have for links, as Python-Markdown makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", heading.encode("ascii", "ignore").decode()).strip().lower()
        name = re.sub(r"[-\s]+", "-", plain)
        numbered = (f"{name}_{k}" for k in itertools.count(1))
        while name in found:
            name = next(numbered)
        found.add(name)
    return found


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", text_of(page))):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} of {page.name}"
        assert DOCS not in page.parents or DOCS in there.parents, f"{target} leaves the site"
        if anchor:
            assert anchor in anchors(there), f"{target} of {page.name}"


def test_every_page_is_reached() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(text_of(page))
    }
    assert {p for p in PAGES if p.name != "README.md"} <= linked


def named_paths(page: Path) -> Iterator[str]:
    words = itertools.chain(
        spans(page), *(body.split() for _, body in FENCE.findall(text_of(page)))
    )
    for word in itertools.chain.from_iterable(w.split() for w in words):
        if "/" in word and word.split("/")[0].lstrip("(`") in FOLDERS and word not in MADE:
            yield word.rstrip(".,:;)")


@pages
def test_every_path_exists(page: Path) -> None:
    """Files and folders of the repository, in running text and in what is typed."""
    for name in named_paths(page):
        found = list(ROOT.glob(name)) if "*" in name else [ROOT / name]
        assert found, name
        assert all(path.exists() for path in found), f"{page.name} names {name}"


def commands(page: Path) -> Iterator[str]:
    """Command lines of `refine`: after a prompt or at the start of a line of a fence, and between
    backquotes."""
    for language, body in FENCE.findall(text_of(page)):
        if language in ("", "sh", "console"):
            lines = (line.removeprefix("$ ") for line in body.splitlines())
            yield from (line for line in lines if line.startswith("refine "))
    yield from (span for span in spans(page) if span.startswith("refine "))


def complaint(line: str) -> str:
    """Why a command line would be refused, without running it; placeholders in capitals stand for
    any value, brackets for what may be left out."""
    typed = re.split(r"\s>+\s", line)[0]  # without what a shell does with the output
    plain = re.sub(
        r"\[([^\]=]*)\](?!=)", r" \1 ", typed.replace("[NAME=]", "").replace("[OUTPUT=]", "")
    )
    words = [w for w in shlex.split(plain) if w not in ("…", "OPTIONS", "[OPTIONS]")]
    _, name, *given = words
    if name.startswith("-") or name == "COMMAND":
        return ""
    command = cli.get_command(click.Context(cli), name)
    if command is None:
        return f"there is no command {name}"
    if not given:  # the command is spoken of, not shown
        return ""
    context = click.Context(command, info_name=name)
    try:
        options, rest, _ = command.make_parser(context).parse_args(args=list(given))
        for parameter in command.params:
            value = options.get(parameter.name or "")
            each = value if isinstance(value, list) else [value]
            for text in (v for v in each if isinstance(v, str)):
                known = isinstance(parameter.type, click.Choice | click.types.FloatParamType)
                if known and not PLACEHOLDER.fullmatch(text) and "|" not in text:
                    parameter.type.convert(text, parameter, context)
    except click.UsageError as error:
        return error.format_message()
    missing = "MODEL" in line.split()[2:3] and name in ("diff",) and len(given) < 2
    return f"too many arguments: {rest}" if rest else "a model is missing" if missing else ""


@pages
def test_every_command_exists_with_its_options(page: Path) -> None:
    found = {line: complaint(line) for line in commands(page)}
    assert {line: why for line, why in found.items() if why} == {}


def test_wrong_commands_are_noticed() -> None:
    assert "no command" in complaint("refine chek net.onnx")
    assert "--epsilon" in complaint("refine check net.onnx --epsilon 1")
    assert complaint("refine check net.onnx --z3 most")
    assert complaint("refine zoo one two")
    assert complaint("refine check MODEL --eps E") == ""


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_option_is_described(name: str) -> None:
    """Each option of a command stands in the section of that command, and no other does."""
    shown = sections(DOCS / "command-line.md")
    (heading,) = (words for words in shown if name in words.split(", "))
    section, together = shown[heading], heading.split(", ")
    described = set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", section))
    assert options_of(name) - described - of_every_command() == set()
    assert described - {o for other in together for o in options_of(other)} == set()


def of_every_command() -> set[str]:
    """What stands once, for it is an option of all of them."""
    found = set.intersection(*(options_of(name) for name in SUMMARIES))
    assert all(f"`{o}" in sections(DOCS / "command-line.md")["Of every command"] for o in found)
    return found


@pytest.mark.parametrize("name", SUMMARIES)
def test_help_says_what_each_option_does_with_examples(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    unsaid = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert unsaid == []
    text = (command.help or "").replace("\\\n", "")
    examples = re.findall(rf"^ *(refine {name}\b.*)$", text, re.MULTILINE)
    assert examples
    assert {line: why for line in examples if (why := complaint(line))} == {}


def options_of(name: str) -> set[str]:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = (p for p in command.params if isinstance(p, click.Option))
    return {text for option in options for text in (*option.opts, *option.secondary_opts)}


def test_every_exit_code_is_described() -> None:
    text = text_of(DOCS / "questions.md")
    assert all(f"| {code.value} |" in text for code in ExitCode)


def test_commands_of_make_exist() -> None:
    targets = set(re.findall(r"^(\w+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    asked = {t for page in PAGES for t in re.findall(r"(?:^|`)make (\w+)", text_of(page), re.M)}
    assert {"demo", "test"} <= asked <= targets


@pages
def test_contracts_shown_are_read(page: Path) -> None:
    for language, body in FENCE.findall(text_of(page)):
        table = tomllib.loads(body) if language == "toml" else {}
        if table.get("schema") == "refine-contract-1":
            assert contract_of_table(table).name == table["name"]


@pytest.fixture(scope="module")
def violated(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The second example of README.md: the document of its result, and its counterexample."""
    saved = tmp_path_factory.mktemp("documentation") / "counterexample.json"
    demo, where = ROOT / "examples" / "demo" / "pendulum.onnx", {"state": (-1, 1)}
    result = refine.check(demo, where, eps=1e-8, counterexample=saved, z3="none", budget=0)
    return refine.document_of(result), json.loads(saved.read_text(encoding="utf-8"))


def test_bounds_shown_are_about_those_proved(
    violated: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    document, _ = violated
    assert document["verdict"] == "violated"
    shown = re.findall(r"^(?:verified|violated)  bound (\S+),", text_of(ROOT / "README.md"), re.M)
    assert len(shown) == 2
    assert all(float(bound) == pytest.approx(document["bound"], rel=0.05) for bound in shown)


def test_every_key_of_a_file_is_described(violated: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Of the document of a result, of a saved counterexample, of an entry of the zoo."""
    document, saved = violated
    described = sections(DOCS / "file-formats.md")
    for section, keys in (
        ("Result document", (*document, *document["nodes"][0], *document["counterexample"])),
        ("Counterexample", saved),
        ("Zoo entry", (f.name.replace("_", "-") for f in dataclasses.fields(Entry))),
    ):
        known = set(SPAN.findall(described[section]))
        assert {key for key in keys if not key.endswith("_hex")} - known == set()


def test_every_schema_has_a_section_of_its_own() -> None:
    schema = re.compile(r"refine-[a-z-]+-\d\b")
    written = {
        name
        for path in (ROOT / "refine").rglob("*.py")
        for name in re.findall(rf'"({schema.pattern})"', text_of(path))
    }
    told = [set(schema.findall(body)) for body in sections(DOCS / "file-formats.md").values()]
    assert len(written) > 10
    assert all(len(names) <= 1 for names in told)
    assert written <= set().union(*told)


def as_built(page: Path) -> str:
    """The text with the tables that the site gets as it is built."""
    spec = importlib.util.spec_from_file_location("claims_table", DOCS / "claims_table.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    return str(hook.on_page_markdown(text_of(page)))


def test_every_claim_has_a_row() -> None:
    page = as_built(DOCS / "command-line.md")
    assert all(f"| `{claim.name}` | {claim.summary} |" in page for claim in checked_claims())


def sections(page: Path) -> dict[str, str]:
    """The text under each heading of the second rank."""
    parts = as_built(page).split("\n## ")[1:]
    return {heading: body for heading, _, body in (part.partition("\n") for part in parts)}


WRONG_TABLES = (
    {"name": "x", "?": 1},
    {"name": "x", "rules": [{"?": 1}]},
    {"name": "x", "functions": {"name": "y", "exp": {"?": 1}}},
    {"name": "x", "format": {"?": 1}},
    {"name": "x", "evidence": {"fma": {"?": 1}}},
)


@pytest.mark.parametrize("table", WRONG_TABLES, ids=lambda t: str(list(t)[-1]))
def test_every_field_of_a_contract_is_described(table: dict[str, Any]) -> None:
    """The fields are those that the refusal of a wrong one names."""
    with pytest.raises(ContractError, match="the fields are") as refusal:
        contract_of_table(table)
    fields = str(refusal.value).partition("the fields are ")[2].split(", ")
    text = text_of(DOCS / "contracts.md")
    words = set(re.findall(r"[\w-]+", " ".join((*spans(DOCS / "contracts.md"), *code_of(text)))))
    assert set(fields) - words == set()


def code_of(text: str) -> list[str]:
    return [body for _, body in FENCE.findall(text)]


def test_presets_and_function_tables_are_described() -> None:
    text = text_of(DOCS / "contracts.md")
    assert all(f"`{name}`" in text for name in (*PRESETS, *TABLES))
    shown = [t for t in TABLES.values() if t != CORRECTLY_ROUNDED]
    assert f"| function | {' | '.join(f'`{t.name}`' for t in shown)} |" in text
    for function, _ in CORRECTLY_ROUNDED.table:
        figures = " | ".join(figure(t.accuracy(function)) for t in shown)
        assert f"| {function.name} | {figures} |" in text


def figure(accuracy: FunctionAccuracy) -> str:
    bounds = ((accuracy.ulps, "ulp"), (accuracy.units, "u"))
    return " or ".join(f"{bound:g} {unit}" for bound, unit in bounds if bound is not None)


def test_every_room_has_its_place() -> None:
    """In the order in which they import each other."""
    text = text_of(DOCS / "extending" / "rooms.md")
    for package, rooms in ROOMS.items():
        names = re.findall(rf"^\| `{package}/(\w+)(?:\.py)?` \|", text, re.MULTILINE)
        assert tuple(names) == rooms


def test_every_lemma_is_listed_with_its_source() -> None:
    text = text_of(DOCS / "lemmas.md")
    _, _, table = text.partition("## All schema lemmas")
    listed: list[tuple[str, str]] = []
    for names, source in re.findall(r"^\| (`.*`) \| `[^`]*` \| (.*) \|$", table, re.MULTILINE):
        plain = source.replace(r"\|", "|")
        listed += [(name, plain) for name in SPAN.findall(names)]
    assert sorted(listed) == sorted((m.name, m.source) for m in library((Kind.SCHEMA,)))
    stated = {m.name.partition("[")[0] for m in library((Kind.FORMAT,))}
    _, _, formats = text.partition("## Format lemmas")
    rows = [line.split("|")[1] for line in formats.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in SPAN.findall(row)} == stated


def test_examples_of_python_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (example,) = (
        b for language, b in FENCE.findall(text_of(ROOT / "README.md")) if language == "python"
    )
    exec(example, {})
    failed, tried = doctest.testfile(str(DOCS / "python.md"), module_relative=False)
    assert tried
    assert not failed


@pytest.mark.parametrize("page", ["claim", "function", "operator", "runtime"])
def test_pieces_of_code_are_those_of_the_source(page: str) -> None:
    """Code that a page shows is, but for what it leaves out (…), in a file that the page names."""
    path = DOCS / "extending" / f"{page}.md"
    named = (name for name in named_paths(path) if name.endswith(".py") and "*" not in name)
    sources = [text_of(ROOT / name) for name in named]
    pieces = [body for language, body in FENCE.findall(text_of(path)) if language == "python"]
    assert pieces
    for piece in pieces:
        lines = [line.strip() for line in piece.splitlines() if line.strip() not in ("", "…")]
        assert any(_holds(source, lines) for source in sources), piece


def _holds(source: str, lines: list[str]) -> bool:
    """Do these lines stand in it, in this order?"""
    there = iter(line.strip() for line in source.splitlines())
    return all(line in there for line in lines)


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: pip install mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.rglob("*.html"))) >= len(list(DOCS.rglob("*.md")))
