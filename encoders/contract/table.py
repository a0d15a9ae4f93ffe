"""A runtime contract as a plain table, the form in which files hold it (TOML and JSON alike).

docs/contracts.md describes the keys. What a table leaves out is left open: the contract covers
every choice (sums in any order, FMA or not, conservative functions), except the format, where
leaving it out means each tensor's own type. A preset's name under `base` fills in what is left out
instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from enum import Enum
from typing import Any, TypeVar

from encoders.contract.contract import (
    BiasPlacement,
    Contraction,
    FactorRounding,
    FieldEvidence,
    Normalization,
    RoundingMode,
    RuntimeContract,
    Schedule,
    ScheduleRule,
    Span,
    Subnormals,
)
from encoders.contract.functions import TABLES, Functions
from encoders.contract.orders import (
    AlignedSteps,
    AnyOrder,
    Blocked,
    Blocks,
    Dwindling,
    Lanes,
    Order,
    Pairwise,
    Sequential,
    Strided,
    Tree,
    checked_tree,
)
from encoders.contract.presets import IEEE_ANY, PRESETS, SCATTERING
from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.registry import every_function
from encoders.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    BINARY64,
    TENSOR_FLOAT_32,
    FloatFormat,
    is_computable,
)
from onnx_import.graph import DType

SCHEMA = "refine-contract-1"
FORMATS = {f.name: f for f in (BINARY16, BFLOAT16, TENSOR_FLOAT_32, BINARY32, BINARY64)}
EVIDENCE_WORDS = {
    "assumed": Evidence.DEFINITION,
    "proved": Evidence.PROVED,
    "exhaustive": Evidence.EXHAUSTIVE,
    "sampled": Evidence.SAMPLED,
    "vendor": Evidence.VENDOR,
}

_WORD_OF = {evidence: word for word, evidence in EVIDENCE_WORDS.items()}
_CHOICES: Mapping[str, type[Enum]] = {
    "fma": Contraction,
    "bias": BiasPlacement,
    "subnormal_results": Subnormals,
    "subnormal_operands": Subnormals,
    "normalization": Normalization,
    "factor_rounding": FactorRounding,
    "rounding": RoundingMode,
}
_ORDER_KEYS = ("order", "block", "blocks", "lanes", "merges", "step", "alignment")
_SCHEDULE_KEYS = (*_ORDER_KEYS, "fma", "bias")
_NUMBERS = ("terms", "rows", "columns")
_FLAGS = ("constant", "written", "plain")
_PLACE_KEYS = ("operator", "node", *_NUMBERS, *_FLAGS, "type", "form")
_FORMAT_KEYS = {
    "format": "compute_format",
    "accumulation": "accumulation",
    "weights": "stored_format",
    "factors": "factor_format",
}
_FIELDS = (*_SCHEDULE_KEYS, *_CHOICES, *_FORMAT_KEYS, "exact", "functions")
_KEYS = frozenset(("schema", "name", "base", "rules", "evidence", "provenance", *_FIELDS))
_RULE_KEYS = frozenset((*_PLACE_KEYS, *_SCHEDULE_KEYS, "evidence", "source"))
_FUNCTION_KEYS = frozenset(
    ("ulps", "units", "evidence", "source", "flushes", "excess", "digits", "alone")
)

_MOST_BITS = 40  # of alignment; tensor cores have 13 to 25

E = TypeVar("E", bound=Enum)
T = TypeVar("T")


def evidence_word(evidence: Evidence) -> str:
    """The word for it in contract files."""
    return _WORD_OF[evidence]


class ContractError(ValueError):
    """A table that is not a contract; the message names the field."""


def contract_document(contract: RuntimeContract) -> dict[str, Any]:
    """A contract as plain JSON values: the keys of a contract file, null where it has none."""
    return {"block": None, "format": None} | contract_table(contract)


def contract_table(contract: RuntimeContract) -> dict[str, Any]:
    """The contract as strings, numbers, lists and tables; `contract_of_table` reads it back."""
    table: dict[str, Any] = {"schema": SCHEMA, "name": contract.name}
    table |= _schedule_table(contract.schedule)
    table |= {
        "subnormal_results": contract.results.value,
        "subnormal_operands": contract.operands.value,
        "normalization": contract.normalization.value,
        "factor_rounding": contract.factor_rounding.value,
        "exact": contract.exact,
        "functions": _functions_table(contract.functions),
    }
    if contract.rounding is not RoundingMode.NEAREST:
        table["rounding"] = contract.rounding.value
    for key, field in _FORMAT_KEYS.items():
        fmt: FloatFormat | None = getattr(contract, field)
        if fmt is not None:
            table[key] = fmt.name if FORMATS.get(fmt.name) == fmt else asdict(fmt)
    if contract.rules:
        table["rules"] = [_rule_table(rule) for rule in contract.rules]
    if contract.evidence:
        table["evidence"] = {
            e.field: {"kind": _WORD_OF[e.evidence], "source": e.source} for e in contract.evidence
        }
    if contract.provenance:
        table["provenance"] = dict(contract.provenance)
    return table


def contract_of_table(table: Mapping[str, Any]) -> RuntimeContract:
    """The contract that a table describes. Raises ContractError, naming the field."""
    _known("the contract", table, _KEYS)
    if table.get("schema", SCHEMA) != SCHEMA:
        raise ContractError(f"schema: this program reads {SCHEMA}, not {table['schema']!r}")
    base = IEEE_ANY
    if "base" in table:
        base = _among("base", table["base"], {**PRESETS, **SCATTERING})
    schedule = _schedule("", table, base.schedule)
    if table.get("exact", base.exact) is True:
        for key in _FORMAT_KEYS:
            if key in table and key != "format":  # which inputs still have
                raise ContractError(
                    f"{key}: nothing is rounded where 'exact' is true; leave it out"
                )
    if isinstance(schedule.order, Tree):
        raise ContractError("order: a tree holds for sums of one length, so it belongs in a rule")
    return replace(
        base,
        name=_typed("name", _required("", table, "name"), str),
        order=schedule.order,
        contraction=schedule.contraction,
        bias=schedule.bias,
        results=_choice("", table, "subnormal_results", Subnormals, base.results),
        operands=_choice("", table, "subnormal_operands", Subnormals, base.operands),
        normalization=_choice("", table, "normalization", Normalization, base.normalization),
        compute_format=_format("format", table, base.compute_format),
        accumulation=_format("accumulation", table, base.accumulation),
        stored_format=_format("weights", table, base.stored_format),
        factor_format=_format("factors", table, base.factor_format),
        factor_rounding=_choice("", table, "factor_rounding", FactorRounding, base.factor_rounding),
        rounding=_choice("", table, "rounding", RoundingMode, base.rounding),
        exact=_typed("exact", table.get("exact", base.exact), bool),
        functions=_functions(table["functions"]) if "functions" in table else base.functions,
        rules=_rules(table) if "rules" in table else _inherited(table, base),
        evidence=_evidences(_typed("evidence", table.get("evidence", {}), dict)),
        provenance=tuple(
            (key, _typed(f"provenance.{key}", value, str))
            for key, value in _typed("provenance", table.get("provenance", {}), dict).items()
        ),
    )


# --- schedules


def _schedule_table(schedule: Schedule) -> dict[str, Any]:
    table: dict[str, Any]
    match schedule.order:
        case AnyOrder(None):
            table = {"order": "any"}
        case AnyOrder(alignment):
            table = {"order": "any", "alignment": alignment}
        case AlignedSteps(terms, alignment):
            table = {"order": "steps", "step": terms, "alignment": alignment}
        case Blocked(size):
            table = {"order": "blocked", "block": size}
        case Dwindling(size):
            table = {"order": "dwindling", "block": size}
        case Strided(count):
            table = {"order": "strided", "lanes": count}
        case Blocks(lengths):
            table = {"order": "blocks", "blocks": list(lengths)}
        case Lanes(count):
            table = {"order": "lanes", "lanes": count}
        case Tree(merges):
            table = {"order": "tree", "merges": [list(pair) for pair in merges]}
        case order:
            table = {"order": type(order).__name__.lower()}
    return table | {"fma": schedule.contraction.value, "bias": schedule.bias.value}


def _schedule(where: str, table: Mapping[str, Any], default: Schedule) -> Schedule:
    return Schedule(
        _order(where, table, default.order),
        _choice(where, table, "fma", Contraction, default.contraction),
        _choice(where, table, "bias", BiasPlacement, default.bias),
    )


def _order(where: str, table: Mapping[str, Any], default: Order) -> Order:
    readers: dict[str, tuple[str | None, Callable[[str, Any], Order]]] = {
        "any": (None, lambda path, value: AnyOrder()),
        "steps": ("step", lambda path, value: AlignedSteps(1, 1)),
        "sequential": (None, lambda path, value: Sequential()),
        "pairwise": (None, lambda path, value: Pairwise()),
        "blocked": ("block", lambda path, value: Blocked(_count(path, value))),
        "dwindling": ("block", lambda path, value: Dwindling(_power(path, value))),
        "strided": ("lanes", lambda path, value: Strided(_power(path, value))),
        "blocks": ("blocks", lambda path, value: Blocks(_counts(path, value))),
        "lanes": ("lanes", lambda path, value: Lanes(_power(path, value))),
        "tree": ("merges", _tree),
    }
    given = [key for key in _ORDER_KEYS[1:] if key in table]
    if "order" not in table:
        if given:
            raise ContractError(f"{_path(where, given[0])}: it says nothing without 'order'")
        return default
    if table["order"] in ("any", "steps") and set(given) <= {"step", "alignment"}:
        return _steps(where, table)
    key, read = _among(_path(where, "order"), table["order"], readers)
    for other in given:
        if other != key:
            raise ContractError(f"{_path(where, other)}: order '{table['order']}' has no such key")
    return read("", None) if key is None else read(_path(where, key), _required(where, table, key))


def _steps(where: str, table: Mapping[str, Any]) -> Order:
    """Any order, perhaps with aligned steps, or such steps alone."""
    if table["order"] == "any":
        if "step" in table:
            raise ContractError(f"{_path(where, 'step')}: order 'any' has no such key")
        return AnyOrder(_alignment(where, table) if "alignment" in table else None)
    step = _count(_path(where, "step"), _required(where, table, "step"))
    return AlignedSteps(step, _alignment(where, table))


def _alignment(where: str, table: Mapping[str, Any]) -> int:
    bits = _count(_path(where, "alignment"), _required(where, table, "alignment"))
    if bits > _MOST_BITS:
        raise ContractError(f"{_path(where, 'alignment')}: at most {_MOST_BITS} bits, not {bits}")
    return bits


def _count(path: str, value: Any) -> int:
    if _typed(path, value, int) < 1:
        raise ContractError(f"{path}: {value} is not a positive integer")
    return int(value)


def _counts(path: str, value: Any) -> tuple[int, ...]:
    if not _typed(path, value, list):
        raise ContractError(f"{path}: an empty list")
    return tuple(_count(f"{path}[{i}]", v) for i, v in enumerate(value))


def _power(path: str, value: Any) -> int:
    count = _count(path, value)
    if count & (count - 1):
        raise ContractError(f"{path}: {count} cannot be halved down to 1")
    return count


def _tree(path: str, value: Any) -> Tree:
    pairs = _typed(path, value, list)
    if not all(isinstance(p, list) and [type(v) for v in p] == [int, int] for p in pairs):
        raise ContractError(f"{path}: a tree is a list of pairs of integers")
    try:
        return checked_tree(tuple((int(a), int(b)) for a, b in pairs))
    except ValueError as error:
        raise ContractError(f"{path}: {error}") from error


def _rule_table(rule: ScheduleRule) -> dict[str, Any]:
    place = {key: getattr(rule, key) for key in _PLACE_KEYS}
    table = {key: _place(value) for key, value in place.items() if value is not None}
    table |= _schedule_table(rule.schedule) | {"evidence": _WORD_OF[rule.evidence]}
    return table | ({"source": rule.source} if rule.source else {})


def _inherited(table: Mapping[str, Any], base: RuntimeContract) -> tuple[ScheduleRule, ...]:
    """The rules of the base, in which what the table itself says of sums counts first."""
    return tuple(replace(r, schedule=_schedule("", table, r.schedule)) for r in base.rules)


def _place(value: Any) -> Any:
    if isinstance(value, Span):
        given = asdict(value).items()
        return {k: v for k, v in given if v is not None and (k, v) != ("of", 1)}
    return value.value if isinstance(value, DType) else value


def _asked(path: str, key: str, value: Any) -> Any:
    """What a rule asks of one property of a place; of a number also `{least, most, of}`."""
    if key == "type":
        return _among(path, value, {t.value: t for t in DType})
    if key not in _NUMBERS:
        return _typed(path, value, bool if key in _FLAGS else str)
    if not isinstance(value, dict):
        return _typed(path, value, int)
    _known(path, value, frozenset(("least", "most", "of")))
    ends = {k: _typed(f"{path}.{k}", v, int) for k, v in value.items()}
    span = Span(**ends)
    if span.of < 1 or (span.most is not None and span.most < span.least):
        raise ContractError(f"{path}: no number is {span.describe()}")
    return span


def _rules(table: Mapping[str, Any]) -> tuple[ScheduleRule, ...]:
    """Raises ContractError for a rule that says otherwise than one before it of the same sums."""
    rules = tuple(
        _rule(f"rules[{i}]", _typed(f"rules[{i}]", rule, dict))
        for i, rule in enumerate(_typed("rules", table["rules"], list))
    )
    for i, rule in enumerate(rules):
        for k, earlier in enumerate(rules[:i]):
            if earlier.schedule != rule.schedule and earlier.hides(rule):
                raise ContractError(
                    f"rules[{i}]: rules[{k}] speaks of all its sums and comes first, so it never "
                    "holds; put it before that one"
                )
    return rules


def _rule(where: str, table: Mapping[str, Any]) -> ScheduleRule:
    _known(where, table, _RULE_KEYS)
    given = [key for key in _PLACE_KEYS if key in table]
    place = {key: _asked(_path(where, key), key, table[key]) for key in given}
    schedule = _schedule(where, table, IEEE_ANY.schedule)
    if isinstance(schedule.order, Tree) and place.get("terms") != len(schedule.order.merges) + 1:
        raise ContractError(
            f"{_path(where, 'terms')}: the tree adds {len(schedule.order.merges) + 1} terms"
        )
    return ScheduleRule(
        schedule,
        **place,
        evidence=_evidence(_path(where, "evidence"), table.get("evidence", "assumed")),
        source=_typed(_path(where, "source"), table.get("source", ""), str),
    )


# --- formats, functions, evidence


def _format(key: str, table: Mapping[str, Any], default: FloatFormat | None) -> FloatFormat | None:
    if key not in table:
        return default
    if isinstance(table[key], str):
        return _among(key, table[key], FORMATS)
    given = _typed(key, table[key], dict)
    _known(key, given, frozenset(("name", "precision", "emin", "emax")))
    numbers = [
        _typed(f"{key}.{k}", _required(key, given, k), int) for k in ("precision", "emin", "emax")
    ]
    fmt = FloatFormat(_typed(f"{key}.name", _required(key, given, "name"), str), *numbers)
    if not is_computable(fmt) or fmt.emin == fmt.emax:
        raise ContractError(
            f"{key}: a format has a precision of 2 to 24, -126 ≤ emin ≤ 0 and emin < emax ≤ 127, "
            "or is float64"
        )
    return BINARY64 if fmt.precision == BINARY64.precision else fmt


def _functions_table(functions: Functions) -> Any:
    if TABLES.get(functions.name) == functions:
        return functions.name
    table: dict[str, Any] = {"name": functions.name}
    for function, accuracy in functions.table:
        given = {k: v for k, v in asdict(accuracy).items() if v is not None}
        table[function.name] = given | {"evidence": _WORD_OF[accuracy.evidence]}
    return table


def _functions(value: Any) -> Functions:
    """A table's name, or a table of accuracies; functions it leaves out are conservative."""
    if isinstance(value, str):
        return _among("functions", value, TABLES)
    table = _typed("functions", value, dict)
    _known("functions", table, frozenset(("name", *(f.name for f in every_function().values()))))
    name = _typed("functions.name", _required("functions", table, "name"), str)
    known = dict(IEEE_ANY.functions.table)
    for function in every_function().values():
        if function.name in table:
            known[function] = _accuracy(f"functions.{function.name}", table[function.name])
    return Functions(name, tuple((f, known[f]) for f in every_function().values()))


def _accuracy(path: str, value: Any) -> FunctionAccuracy:
    table = _typed(path, value, dict)
    _known(path, table, _FUNCTION_KEYS)
    ulps, units = (
        _bound(f"{path}.{key}", table[key]) if key in table else None for key in ("ulps", "units")
    )
    try:
        return FunctionAccuracy(
            ulps,
            units,
            evidence=_evidence(f"{path}.evidence", table.get("evidence", "assumed")),
            source=_typed(f"{path}.source", table.get("source", ""), str),
            flushes=_typed(f"{path}.flushes", table.get("flushes", False), bool),
            excess=_bound(f"{path}.excess", table.get("excess", 0.0)),
            digits=_count(f"{path}.digits", table["digits"]) if "digits" in table else None,
            alone=_typed(f"{path}.alone", table.get("alone", False), bool),
        )
    except ContractError:
        raise
    except ValueError as error:
        raise ContractError(f"{path}: {error}") from error


def _bound(path: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise ContractError(f"{path}: {value!r} is not a bound on an error")
    return float(value)


def _evidences(table: Mapping[str, Any]) -> tuple[FieldEvidence, ...]:
    _known("evidence", table, frozenset(_FIELDS))
    found = []
    for field, value in table.items():
        path = f"evidence.{field}"
        entry = {"kind": value} if isinstance(value, str) else _typed(path, value, dict)
        _known(path, entry, frozenset(("kind", "source")))
        kind = _evidence(f"{path}.kind", _required(path, entry, "kind"))
        source = _typed(f"{path}.source", entry.get("source", ""), str)
        found.append(FieldEvidence(field, kind, source))
    return tuple(found)


def _evidence(path: str, value: Any) -> Evidence:
    return _among(path, value, EVIDENCE_WORDS)


# --- what every field needs


def _path(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _known(where: str, table: Mapping[str, Any], keys: frozenset[str]) -> None:
    for key in table:
        if key not in keys:
            raise ContractError(
                f"{where} has no field '{key}'; the fields are {', '.join(sorted(keys))}"
            )


def _required(where: str, table: Mapping[str, Any], key: str) -> Any:
    if key not in table:
        raise ContractError(f"{_path(where, key)}: this field is missing")
    return table[key]


def _typed(path: str, value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        words = {str: "text", int: "an integer", bool: "true or false", list: "a list"}
        raise ContractError(f"{path}: {value!r} is not {words.get(kind, 'a table')}")
    return value


def _among(path: str, value: Any, words: Mapping[str, T]) -> T:
    if not isinstance(value, str) or value not in words:
        raise ContractError(f"{path}: {value!r} is not one of {', '.join(words)}")
    return words[value]


def _choice(where: str, table: Mapping[str, Any], key: str, kind: type[E], default: E) -> E:
    if key not in table:
        return default
    return _among(_path(where, key), table[key], {str(e.value): e for e in kind})
