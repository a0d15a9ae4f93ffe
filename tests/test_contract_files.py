"""Contracts in TOML files: what is written is what is read, and what is wrong is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import small_models
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.contract.contract import (
    BiasPlacement,
    Contraction,
    FactorRounding,
    FieldEvidence,
    Normalization,
    Reduction,
    RoundingMode,
    RuntimeContract,
    Schedule,
    ScheduleRule,
    Subnormals,
)
from encoders.contract.functions import CONSERVATIVE, Functions
from encoders.contract.orders import (
    AlignedSteps,
    AnyOrder,
    Blocked,
    Blocks,
    Dwindling,
    Lanes,
    Pairwise,
    Sequential,
    Strided,
    Tree,
)
from encoders.contract.presets import IEEE_ANY, ORT_CPU, PRESETS, SCATTERING
from encoders.contract.table import SCHEMA, contract_of_table, contract_table
from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.registry import every_function
from encoders.numbers.formats import BINARY16, BINARY32, TENSOR_FLOAT_32, small_format
from onnx_import.errors import ModelError
from onnx_import.graph import DType
from refine.cli.main import run
from refine.options.contract_file import read_contract, write_contract
from refine.results.verdict import ExitCode

KINDS = st.sampled_from(Evidence)
ORDERS = st.one_of(
    st.sampled_from(
        [AnyOrder(), AnyOrder(23), Sequential(), Pairwise(), Lanes(8), AlignedSteps(16, 25)]
    ),
    st.integers(1, 9).map(Blocked),
    st.integers(0, 5).map(lambda n: Dwindling(2**n)),
    st.integers(0, 5).map(lambda n: Strided(2**n)),
    st.lists(st.integers(1, 9), min_size=1).map(lambda n: Blocks(tuple(n))),
)
TEXT = st.text(max_size=20)
PLACES = st.none() | st.integers(1, 4096)


def schedules(orders: st.SearchStrategy[Any]) -> st.SearchStrategy[Schedule]:
    return st.builds(Schedule, orders, st.sampled_from(Contraction), st.sampled_from(BiasPlacement))


RULES = st.builds(
    ScheduleRule,
    schedules(ORDERS),
    operator=st.none() | TEXT,
    node=st.none() | TEXT,
    terms=PLACES,
    rows=PLACES,
    columns=PLACES,
    constant=st.none() | st.booleans(),
    form=st.none() | TEXT,
    evidence=KINDS,
    source=TEXT,
) | st.builds(
    ScheduleRule,
    schedules(st.just(Tree(((2, 0), (1, 3))))),
    terms=st.just(3),
)


def unhidden(rules: list[ScheduleRule]) -> tuple[ScheduleRule, ...]:
    """A file whose rules contradict each other is none."""
    kept: list[ScheduleRule] = []
    for rule in rules:
        if not any(r.hides(rule) and r.schedule != rule.schedule for r in kept):
            kept.append(rule)
    return tuple(kept)


def without_conversions_if_exact(contract: RuntimeContract) -> RuntimeContract:
    if not contract.exact:
        return contract
    return replace(contract, accumulation=None, stored_format=None, factor_format=None)


BOUND = st.floats(0, 100)
TABLE = st.builds(
    Functions,
    TEXT,
    st.fixed_dictionaries(
        {
            f: st.builds(
                FunctionAccuracy,
                BOUND,
                st.none() | BOUND,
                KINDS,
                TEXT,
                flushes=st.booleans(),
                excess=BOUND,
            )
            for f in every_function().values()
        }
    ).map(lambda d: tuple((f, d[f]) for f in every_function().values())),
)
CONTRACTS = st.builds(
    RuntimeContract,
    TEXT,
    ORDERS,
    st.sampled_from(Contraction),
    st.sampled_from(BiasPlacement),
    st.sampled_from(Subnormals),
    st.sampled_from(Subnormals),
    st.sampled_from(Normalization),
    st.sampled_from([None, BINARY16, small_format(4, 5)]),
    st.sampled_from([None, BINARY32, small_format(5, 9)]),
    st.sampled_from([None, BINARY16]),
    st.sampled_from([None, TENSOR_FLOAT_32]),
    st.sampled_from(FactorRounding),
    st.booleans(),
    st.just(CONSERVATIVE) | TABLE,
    st.lists(RULES, max_size=3).map(unhidden),
    st.dictionaries(
        st.sampled_from(("order", "fma", "bias", "functions", "format")),
        st.tuples(KINDS, TEXT),
    ).map(lambda d: tuple(FieldEvidence(k, *v) for k, v in d.items())),
    st.dictionaries(TEXT, TEXT).map(lambda d: tuple(d.items())),
    rounding=st.sampled_from(RoundingMode),
).map(without_conversions_if_exact)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contracts") / "contract.toml"


@given(contract=CONTRACTS)
@settings(max_examples=25, deadline=None)
def test_every_contract_comes_back(contract: RuntimeContract, written: Path) -> None:
    write_contract(contract, written)
    assert read_contract(written) == contract


@pytest.mark.parametrize("contract", {**PRESETS, **SCATTERING}.values(), ids=lambda c: c.name)
def test_presets_come_back(contract: RuntimeContract, written: Path) -> None:
    write_contract(contract, written)
    assert read_contract(written) == contract


def test_no_field_is_forgotten() -> None:
    """A field added to the contract must be added to the file: the random contracts vary all.

    `narrow` is of a node's inside, and in no file."""
    assert len({f.name for f in fields(RuntimeContract)} - {"narrow"}) == 18


def test_what_a_file_leaves_out_is_open(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('name = "mine"\n')
    assert read_contract(path) == replace(IEEE_ANY, name="mine")
    path.write_text('name = "mine"\nbase = "ort-cpu"\nfma = "never"\n')
    assert read_contract(path) == replace(
        ORT_CPU,
        name="mine",
        contraction=Contraction.NEVER,
        rules=tuple(
            replace(r, schedule=replace(r.schedule, contraction=Contraction.NEVER))
            for r in ORT_CPU.rules
        ),
    )


WRONG = {
    "no field 'ordr'": 'ordr = "any"',
    "name": "order = 'any'\nname = 3",
    "order": 'order = "sorted"',
    "block": 'order = "blocked"',
    "blocks[1]": 'order = "blocks"\nblocks = [3, 0]',
    "lanes": 'order = "lanes"\nlanes = 6',
    "no such key": 'order = "any"\nblock = 3',
    "without 'order'": "block = 3",
    "a tree holds for": 'order = "tree"\nmerges = [[0, 1]]',
    "fma": 'fma = "maybe"',
    "bias": "bias = true",
    "subnormal_results": 'subnormal_results = "lost"',
    "format": 'format = "float33"',
    "format.emax": 'format = {name = "f", precision = 4, emin = -3}',
    "exact": 'exact = "no"',
    "functions": 'functions = "libm"',
    "functions.exp.ulps": 'functions = {name = "f", exp = {ulps = -1}}',
    "functions.exp": 'functions = {name = "f", exp = {source = "x"}}',
    "functions has no field 'exq'": 'functions = {name = "f", exq = {ulps = 1}}',
    "schema": 'schema = "refine-contract-9"',
    "base": 'base = "mine"',
    "evidence has no field 'ordr'": 'evidence = {ordr = "sampled"}',
    "evidence.order.kind": 'evidence = {order = "certain"}',
    "provenance.cpu": "provenance = {cpu = 3}",
    "rules[0] has no field 'opertor'": 'rules = [{opertor = "Gemm"}]',
    "rules[0].terms": 'rules = [{terms = "3"}]',
    "rules[1].order": 'rules = [{}, {order = "x"}]',
    "rules[0].merges": 'rules = [{terms = 3, order = "tree", merges = [[0, 1], [0, 2]]}]',
    "the tree adds 2": 'rules = [{terms = 3, order = "tree", merges = [[0, 1]]}]',
    "weights: a format": "weights = {name = 'p', precision = 30, emin = -126, emax = 127}",
    "factors: a format": "factors = {name = 'p', precision = 9, emin = -1022, emax = 1023}",
    "accumulation: a format": "accumulation = {name = 'p', precision = 9, emin = 3, emax = 9}",
    "format: a format": "format = {name = 'p', precision = 1, emin = -3, emax = 3}",
    "rules[1]: rules[0]": "rules = [{terms = {least = 2}, fma = 'never'}, {terms = 3}]",
    "rules[2]: rules[0]": "rules = [{}, {}, {operator = 'Gemm', order = 'pairwise'}]",
    "weights: nothing is rounded": "exact = true\nweights = 'float16'",
    "factors: nothing is rounded": "base = 'exact'\nfactors = 'tf32'",
    "not TOML": "order = = 3",
}


@pytest.mark.parametrize(("word", "text"), WRONG.items(), ids=list(WRONG))
def test_what_is_wrong_is_named(word: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text if "name =" in text.split("{")[0] else f'name = "c"\n{text}\n')
    with pytest.raises(ModelError) as caught:
        read_contract(path)
    assert word in str(caught.value)
    assert "wrong.toml" in str(caught.value)


def test_json_and_toml_hold_the_same_table() -> None:
    table = contract_table(ORT_CPU)
    assert contract_of_table(json.loads(json.dumps(table))) == ORT_CPU
    assert table["schema"] == SCHEMA


def test_the_first_rule_that_covers_a_sum_counts() -> None:
    narrow = ScheduleRule(Schedule(Lanes(8), Contraction.NEVER), operator="Gemm", terms=9)
    wide = ScheduleRule(Schedule(Pairwise(), Contraction.ALWAYS), operator="Gemm")
    contract = replace(IEEE_ANY, rules=(narrow, wide))
    assert contract.at(Reduction("Gemm", "g", 9)).order == Lanes(8)
    assert contract.at(Reduction("Gemm", "g", 8)).order == Pairwise()
    assert contract.at(Reduction("Conv", "c", 9)).order == AnyOrder()
    assert not contract.pinned
    assert not contract.at(Reduction("Gemm", "g", 8)).rules


# The command line


@pytest.fixture
def answer(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`refine bound` on a small network: the JSON result."""
    model = small_models.mlp(tmp_path / "net.onnx", (3, 9, 2))

    def bound(contract: str) -> dict[str, Any]:
        path = tmp_path / "result.json"
        options = ("--json", str(path), "--quiet", "--z3", "none", "--no-search")
        code = run(["bound", str(model), "--input", "-1..1", "--contract", contract, *options])
        assert code is ExitCode.VERIFIED
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    return bound


def test_check_takes_a_file(answer: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """A file with a preset's content gives the preset's bound, and rules narrow a free one."""
    path = tmp_path / "c.toml"
    write_contract(ORT_CPU, path)
    assert answer(str(path))["bound"] == answer("ort-cpu")["bound"]
    free = answer("ieee-any")
    rule = ScheduleRule(Schedule(Sequential(), Contraction.ALWAYS), operator="Gemm")
    kept = replace(IEEE_ANY, results=Subnormals.KEEP, operands=Subnormals.KEEP)
    write_contract(replace(kept, name="ruled", rules=(rule,)), path)
    ruled = answer(str(path))
    assert ruled["bound"] < free["bound"]
    assert ruled["contract"]["rules"][0]["operator"] == "Gemm"


@pytest.mark.parametrize("kind", ["assumed", "proved", "exhaustive", "sampled", "vendor"])
def test_weak_evidence_is_an_assumption(
    kind: str, answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        f'name = "c"\nevidence = {{fma = {{kind = "{kind}", source = "the-source"}}}}\n'
        f'[[rules]]\nterms = 9\nevidence = "{kind}"\nsource = "nine"\n'
        f'[[rules]]\nterms = 77\nevidence = "{kind}"\nsource = "seventy-seven"\n'
    )
    texts = [a["text"] for a in answer(str(path))["assumptions"] if a["name"] == "evidence"]
    weak = kind in ("sampled", "vendor")
    assert (
        bool([t for t in texts if "fma" in t and "the-source" in t and "conditional" in t]) == weak
    )
    assert bool([t for t in texts if "9 terms" in t and "nine" in t]) == weak
    assert not [t for t in texts if "seventy-seven" in t], "no sum of the model has 77 terms"


def test_a_wrong_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_models.mlp(tmp_path / "net.onnx", (2, 2))
    (tmp_path / "c.toml").write_text('name = "c"\nfma = "maybe"\n')
    arguments = ["bound", str(model), "--input", "-1..1", "--contract"]
    for contract, word in (
        (tmp_path / "c.toml", "fma"),
        (tmp_path / "no.toml", "no.toml"),
        ("probe:abacus", "abacus"),
        ("nothing", "preset"),
    ):
        assert run([*arguments, str(contract)]) is ExitCode.INPUT_ERROR
        error = capsys.readouterr().err
        assert word in error
        assert error.count("\n") == 1


def test_a_rule_asks_for_spans_types_and_what_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        'name = "mine"\n[[rules]]\noperator = "Conv"\ncolumns = {least = 2, most = 16}\n'
        'type = "float32"\nwritten = true\norder = "sequential"\n'
    )
    contract = read_contract(path)
    place = Reduction("Conv", "c", 9, 4, 16, type=DType.FLOAT32, written=True)
    assert contract.at(place).order == Sequential()
    for other in (
        replace(place, columns=17),
        replace(place, columns=1),
        replace(place, type=DType.FLOAT64),
        replace(place, written=False),
    ):
        assert contract.at(other).order == AnyOrder()
    assert contract_of_table(contract_table(contract)) == contract


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("columns = {least = 3, most = 2}", "no number is 3 to 2"),
        ("columns = {atleast = 3}", "no field 'atleast'"),
        ("columns = true", "integer"),
        ('type = "float31"', "is not one of"),
        ("plain = 1", "true or false"),
    ],
)
def test_rules_that_ask_nonsense_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'name = "mine"\n[[rules]]\n{text}\norder = "sequential"\n')
    with pytest.raises(ModelError, match=said):
        read_contract(path)
