"""The house rules: packages import only downwards, and each privilege has one owner."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import onnx
import pytest

from encoders.operator import Operator
from encoders.registry import operators

ROOT = Path(__file__).resolve().parents[1]

MAY_IMPORT: dict[str, set[str]] = {
    "onnx_import": set(),
    "encoders": {"onnx_import"},
    "gpu_check": {"onnx_import", "encoders"},
    "checker": set(),
    "refine": {"onnx_import", "encoders", "gpu_check", "checker"},
}
ROOMS: dict[str, tuple[str, ...]] = {
    "onnx_import": ("errors", "graph", "files", "tensors", "passes", "onnx", "torchlean", "fpcore"),
    "encoders": (
        "collecting", "numbers", "lemmas", "functions", "contract", "arithmetic", "site", "traits",
        "relaxing", "gradients", "quantizing", "operator", "curves", "rounding", "relaxations",
        "families", "quantized", "ops", "registry", "scheduling", "program",
    ),
    "gpu_check": ("common", "emulator", "runtimes", "probe", "conformance", "cuda"),
    "checker": ("arithmetic", "model", "rounding", "bounds", "check"),
    "refine": (
        "siblings", "common", "process", "domain", "results", "bounds", "perturbed", "scalar",
        "proof", "probable", "certificate", "lemmas", "pair", "search", "options", "witness",
        "gradients", "claims", "axioms", "everyday", "traces", "report", "api", "zoo", "testing",
        "cli",
    ),
}  # fmt: skip
"""The rooms of each package, and its files beside them, from the lowest: each imports only itself
and what stands before it."""
HAVE_TYPES = (
    "operator", "relaxing", "site", "program", "traits", "scheduling", "collecting", "registry",
    "lemmas", "gradients", "ops", "families", "quantized", "relaxations", "rounding", "curves",
    "arithmetic/runtime", "arithmetic/values", "arithmetic/number_path",
)  # fmt: skip
"""What operators are written with and against, in encoders: it says nothing with Any, which is left
to what speaks with libraries that have no types (numpy's objects, FLINT, Z3)."""
LARGEST_ROOM = 20
LONGEST_FILE = 500
RESOLVES = "encoders/program.py"
ASKS_Z3 = "refine/proof/z3_solver.py"
SPEAKS_FP = "encoders/arithmetic/fp_theory.py"
PRINTS = {"refine/report/console.py", "checker/check.py"}
SCRIPTS = ("tests", "benchmarks", "examples")
NAMES_OPERATORS: dict[str, str] = {
    "encoders/contract/presets.py": "what one runtime does in some operators: its contract",
    "encoders/families/rows/spelled.py": "the nodes that a normalisation is written out as",
    "encoders/functions/exp.py": "what one runtime does in some operators: its figures",
    "encoders/functions/sigmoid.py": "what kernels do in layers over time: its figures",
    "encoders/functions/tanh.py": "what kernels do in layers over time: its figures",
    "gpu_check/cuda/sources.py": "a word of CUDA's that is spelled as an operator",
    "gpu_check/probe/modes.py": "the models of one node by which a runtime is asked what it does",
    "gpu_check/runtimes/array_calls.py": "the call for each operator of libraries like numpy",
    "gpu_check/runtimes/library_kernels.py": "a library's call for each operator",
    "refine/everyday/mixed.py": "the casts that it adds to a file, and weights kept as nodes",
    "refine/options/optimised.py": "what one runtime's fused operators are made of",
}
"""Files beside the operators' own that may name one, and why."""


def files() -> list[str]:
    found = (p for package in MAY_IMPORT for p in (ROOT / package).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@cache
def tree_of(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(), filename=file)


def imported_modules(tree: ast.Module, file: str) -> Iterator[str]:
    """Full names of what a file imports, relative imports resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = Path(file).parent.parts
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            yield ".".join((*base, *((node.module,) if node.module else ())))


def attributes_of(tree: ast.Module, module: str) -> Iterator[str]:
    """Names used of a module: `module.name`, and `from module import name`."""
    names = {module}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname for a in node.names if a.name == module and a.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == module:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in names:
            yield node.attr


def test_no_two_scripts_share_a_name() -> None:
    """Tests, benchmarks and examples import each other by these names: one would hide the other."""
    found = (p for folder in SCRIPTS for p in (ROOT / folder).rglob("*.py"))
    entries = {"__main__", "__init__", "conftest", "build"}  # never imported by name
    named = Counter(path.stem for path in found if path.stem not in entries)
    assert [name for name, times in named.items() if times > 1] == []


def of_each(names: list[str]) -> Callable[[Callable[[str], None]], Callable[[], None]]:
    """One test of all these files, which names those that fail: thousands of tests would take
    longer to collect than to run."""

    def wrapped(check: Callable[[str], None]) -> Callable[[], None]:
        def test() -> None:
            failed = []
            for name in names:
                try:
                    check(name)
                except AssertionError as error:
                    failed.append(f"{name}: {error}")
            assert not failed, "\n".join(failed)

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return wrapped


@of_each(files())
def test_imports_go_downwards(file: str) -> None:
    package = file.split("/")[0]
    allowed = MAY_IMPORT[package] | {package}
    used = {name.split(".")[0] for name in imported_modules(tree_of(file), file)}
    upward = (used & set(MAY_IMPORT)) - allowed
    assert not upward, f"{file} imports {', '.join(sorted(upward))}"


def room_of(module: str) -> str:
    """The room of a package in which a module lies, or the name of a file beside the rooms."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_stands_in_the_order(package: str) -> None:
    found = {Path(file).relative_to(package).parts[0] for file in files() if within(file, package)}
    rooms = {name.removesuffix(".py") for name in found if not name.startswith("__")}
    assert rooms == set(ROOMS[package])


def within(file: str, package: str) -> bool:
    return file.startswith(f"{package}/")


@of_each(files())
def test_rooms_import_downwards(file: str) -> None:
    package, *_ = module = file.removesuffix(".py").split("/")
    order, here = ROOMS[package], room_of(".".join(module))
    if here.startswith("__"):
        return  # the package's door opens into every room
    for name in imported_modules(tree_of(file), file):
        if name.split(".")[0] == package and (there := room_of(name)) in order:
            assert order.index(there) <= order.index(here), f"{file} imports {name}"


def test_no_room_is_crowded() -> None:
    found = (path for package in ROOMS for path in (ROOT / package).rglob("*.py"))
    sizes = Counter(path.parent.relative_to(ROOT).as_posix() for path in found)
    assert {room: size for room, size in sizes.items() if size > LARGEST_ROOM + 1} == {}


@of_each(files())
def test_no_file_is_too_long(file: str) -> None:
    lines = len((ROOT / file).read_text().splitlines())
    assert lines <= LONGEST_FILE


def test_scripts_in_strings_import_what_exists() -> None:
    """What a process of its own imports, a linter does not see."""
    imports = re.compile(rf"\b(?:from|import) ((?:{'|'.join(MAY_IMPORT)})(?:\.\w+)+)")
    found: set[str] = set()
    for path in (p for folder in (*MAY_IMPORT, *SCRIPTS) for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(imports.findall(node.value))
    modules = {file.removesuffix(".py").replace("/", ".") for file in files()}
    assert "refine.cli.main" in found
    assert found - modules - {m.removesuffix(".__init__") for m in modules} == set()


@of_each([f for f in files() if f != RESOLVES])
def test_only_a_program_looks_operators_up(file: str) -> None:
    """Everything else asks the steps of a program, where they are found once per node."""
    used = {"lookup", "site_of"} & set(attributes_of(tree_of(file), "encoders"))
    assert not used, f"{file} uses {', '.join(sorted(used))}"


def operators_named(tree: ast.Module, names: Collection[str]) -> set[str]:
    """Operators that are asked for by name; to build a node of one says nothing of it."""
    building = [
        argument
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for argument in (
            *(call.args if ast.unparse(call.func) == "Node" else ()),
            *(k.value for k in call.keywords if k.arg == "op"),
        )
    ]
    built = {id(part) for argument in building for part in ast.walk(argument)}
    said = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in built)
    return {n.value for n in said if isinstance(n.value, str)} & set(names)


def test_operators_are_named_in_their_own_files_alone() -> None:
    """What else is to be known of an operator is a field of its record, with a sound default."""
    names = {s.name for s in onnx.defs.get_all_schemas()} | set(operators())
    own = ("onnx_import", "encoders/ops", "checker")  # which has meanings of its own
    rooms = [f for f in files() if not any(within(f, room) for room in own)]
    named = {file: said for file in rooms if (said := operators_named(tree_of(file), names))}
    assert {f: s for f, s in named.items() if f not in NAMES_OPERATORS} == {}
    assert set(named) == set(NAMES_OPERATORS), "an exception is no longer needed"
    prefixes = [
        f for f in rooms if re.search(r"\.op\.(startswith|endswith)", (ROOT / f).read_text())
    ]
    assert prefixes == []


@of_each(files())
def test_no_star_imports(file: str) -> None:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), f"{file}:{node.lineno}"


@of_each([f for f in files() if f != ASKS_Z3])
def test_only_solve_asks_z3(file: str) -> None:
    """No deciding part of z3 elsewhere, and no `.check(` of a solver handed over.

    Operators have a `check` of their own, so only an owner called a solver counts.
    """
    tree = tree_of(file)
    deciding = {
        "Solver",
        "SimpleSolver",
        "SolverFor",
        "Optimize",
        "Tactic",
        "Then",
        "prove",
        "solve",
    }
    used = deciding & set(attributes_of(tree, "z3"))
    assert not used, f"{file} lets Z3 decide with {', '.join(sorted(used))}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value).lower()
            assert not (node.func.attr == "check" and "solver" in owner), f"{file}:{node.lineno}"


@of_each([f for f in files() if f != SPEAKS_FP])
def test_only_fp_theory_speaks_floating_point(file: str) -> None:
    names = {name for name in attributes_of(tree_of(file), "z3") if name[:2].lower() == "fp"}
    assert not names, f"{file} uses z3's {', '.join(sorted(names))}"


@of_each(files())
def test_no_conversion_from_floating_point_to_reals(file: str) -> None:
    """Z3 does not come back from queries with fp.to_real."""
    assert "fpToReal" not in set(attributes_of(tree_of(file), "z3")), file


@of_each([f for f in files() if f not in PRINTS])
def test_only_the_report_prints(file: str) -> None:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            writes = called in ("print", "click.echo", "click.secho", "sys.stdout.write")
            assert not writes, f"{file}:{node.lineno} calls {called}"


@of_each(files())
def test_no_module_level_state(file: str) -> None:
    """A list, dict or set at module level is a constant table, named like one, or is not there.

    Nothing may write to such a table from inside a function, nor rebind a global.
    """
    tree = tree_of(file)
    tables = set()
    for statement in tree.body:
        targets = (
            statement.targets
            if isinstance(statement, ast.Assign)
            else [statement.target]
            if isinstance(statement, ast.AnnAssign)
            else []
        )
        for target in targets:
            assert isinstance(statement, ast.Assign | ast.AnnAssign)
            if isinstance(target, ast.Name) and is_mutable(statement.value):
                constant = target.id.isupper() or target.id == "__all__"
                assert constant, f"{file}:{statement.lineno} binds mutable '{target.id}'"
                tables.add(target.id)
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Global), f"{file}:{node.lineno} rebinds a global"
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            assert ast.unparse(node.value) not in tables, f"{file}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            writes = node.func.attr in ("append", "extend", "add", "update", "setdefault", "pop")
            assert not (writes and ast.unparse(node.func.value) in tables), f"{file}:{node.lineno}"


@pytest.mark.parametrize("room", HAVE_TYPES)
def test_operators_have_types(room: str) -> None:
    starts = tuple(f"encoders/{room}{end}" for end in (".py", "/"))
    found = [file for file in files() if file.startswith(starts)]
    assert found, f"encoders has no {room}"
    assert [file for file in found if "Any" in names_in(tree_of(file))] == []


def names_in(tree: ast.AST) -> set[str]:
    return {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Name | ast.Attribute)}


def is_mutable(value: ast.expr | None) -> bool:
    literals = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    if isinstance(value, ast.Call):
        return ast.unparse(value.func) in ("list", "dict", "set", "defaultdict", "deque")
    return isinstance(value, literals)


def test_the_rules_see_what_they_forbid() -> None:
    tree = ast.parse("from . import ops\nimport z3 as z\nfrom z3 import fpAdd\nz.fpToReal(1)")
    assert list(imported_modules(tree, "encoders/x.py")) == ["encoders", "z3", "z3"]
    assert set(attributes_of(tree, "z3")) == {"fpAdd", "fpToReal"}
    assert is_mutable(ast.parse("{1: 2}", mode="eval").body)
    assert not is_mutable(ast.parse("(1, 2)", mode="eval").body)
    assert "Any" in names_in(ast.parse("def f(x: list[Any]) -> int: ..."))
    tree = ast.parse("Node('x', 'Relu'); replace(n, op='Add'); n.op in ('Conv',); {'Exp': 0}")
    assert operators_named(tree, ("Relu", "Add", "Conv", "Exp")) == {"Conv", "Exp"}


def _implements(file: str, node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Is what it does said elsewhere? Functions of an operator's file that are named after fields
    of `Operator` are said there, arguments of lemmas in the `Lemma` that names them, overloads at
    the function itself."""
    if isinstance(node, ast.ClassDef):
        return False
    if file.startswith("encoders/ops/") and node.name in {f.name for f in fields(Operator)}:
        return True
    argument = node.returns is not None and ast.unparse(node.returns) == "Argument"
    return argument or any("overload" in ast.unparse(d) for d in node.decorator_list)


@of_each(files())
def test_public_functions_and_classes_say_what_they_are(file: str) -> None:
    silent = [
        node.name
        for node in tree_of(file).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not _implements(file, node)
        and not ast.get_docstring(node)
    ]
    assert not silent, f"{file}: no docstring: {', '.join(silent)}"
