"""Which tensor beside a TorchLean graph is which parameter of which node.

Names say it where the file has names: a module, and behind its last dot what the tensor is. A node
that names its module gets that module's tensors; the others get the modules whose tensors are what
the node asks for, and have its shapes. Positions decide only between modules that fit equally well,
which is said, and where the file has no names at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onnx_import.errors import ModelError
from onnx_import.torchlean.documents import Reals
from onnx_import.torchlean.weights import Weights

_KNOWN: Mapping[str, str] = {
    **dict.fromkeys(("weight", "w", "gamma", "scale"), "weight"),
    **dict.fromkeys(("bias", "b", "beta", "shift"), "bias"),
    **dict.fromkeys(("running_mean", "mean", "moving_mean"), "running_mean"),
    **dict.fromkeys(
        ("running_var", "var", "variance", "running_variance", "moving_variance", "moving_var"),
        "running_var",
    ),
}
_IGNORED = "num_batches_tracked"
_NAME = re.compile(r"(?P<what>[A-Za-z_]*[A-Za-z])_?(?P<number>[0-9]*)")


@dataclass(frozen=True)
class Reader:
    """A node that has no weights of its own: its module as the file names it, the parameters that
    it asks for, and a function that raises ModelError where given tensors are not these."""

    node: str
    module: str | None
    parameters: tuple[str, ...]
    require: Callable[[Mapping[str, Reals]], None]

    def takes(self, module: Module) -> bool:
        """Has the module what is asked for, in the right shapes?"""
        if not self.names(module):
            return False
        try:
            self.require(self.of(module))
        except ModelError:
            return False
        return True

    def names(self, module: Module) -> bool:
        """Do the module's tensors have the names of the node's parameters? One alone may have
        any."""
        return len(self.parameters) == len(module.tensors) and (
            self.parameters == ("value",) or set(self.parameters) == module.tensors.keys()
        )

    def of(self, module: Module) -> Mapping[str, Reals]:
        if self.parameters == ("value",):
            return dict(zip(self.parameters, module.tensors.values(), strict=True))
        return module.tensors


@dataclass
class Module:
    """Tensors of one module by what they are; one that is nothing known is alone in its module."""

    name: str
    tensors: dict[str, Reals] = field(default_factory=dict)
    known: bool = True


def assign(
    weights: Weights, readers: Sequence[Reader]
) -> tuple[list[Mapping[str, Reals]], tuple[str, ...]]:
    """For each reader its tensors by parameter, and what had to be decided, in words.

    Raises ModelError where names and shapes do not say which is which, or say something that
    cannot be.
    """
    if not weights.tensors:
        return [{} for _ in readers], ()
    modules = modules_of(weights)
    by_name = {m.name: m for m in modules if m.known}
    if any(reader.module in by_name for reader in readers):
        none = Module("")
        return [by_name.get(r.module or "", none).tensors for r in readers], ()
    if not weights.named or not by_name:
        return _in_order(weights, readers), _order_note(weights, readers)
    return _fitting(modules, readers)


def modules_of(weights: Weights) -> list[Module]:
    """The tensors of a file with names, by module, in the order of the file. Raises ModelError for
    two tensors that are the same parameter."""
    found: dict[tuple[str, bool], Module] = {}
    for name, tensor in weights.tensors.items():
        before, _, last = name.rpartition(".")
        if last == _IGNORED:
            continue
        match = _NAME.fullmatch(last)
        what = _KNOWN.get(match["what"].lower()) if match else None
        if what is None or match is None:
            found[name, False] = Module(name, {"value": tensor}, known=False)
            continue
        number = match["number"]
        module = f"{before}[{number}]" if number else before
        group = found.setdefault((module, True), Module(module))
        if what in group.tensors:
            raise ModelError(
                f"the weights have two tensors that are the {what} of '{module}', '{name}' among "
                "them; rename one"
            )
        group.tensors[what] = tensor
    return list(found.values())


def _in_order(weights: Weights, readers: Sequence[Reader]) -> list[Mapping[str, Reals]]:
    """One after the other, as the file has them; it must hold exactly what is wanted."""
    kept = [n for n in weights.tensors if n.rpartition(".")[2] != _IGNORED]
    count = sum(len(reader.parameters) for reader in readers)
    if len(kept) != count:
        raise ModelError(
            f"the weights hold {len(kept)} tensors and the graph needs {count}, so they cannot be "
            "assigned in order; name each node's module in its 'debug_target'"
        )
    order = iter(kept)
    return [{p: weights.tensors[next(order)] for p in reader.parameters} for reader in readers]


def _order_note(weights: Weights, readers: Sequence[Reader]) -> tuple[str, ...]:
    if not readers:
        return ()
    why = "their names do not say what they are" if weights.named else "the file has no names"
    return (f"weights are taken in the order of the file: {why}",)


def _fitting(
    modules: Sequence[Module], readers: Sequence[Reader]
) -> tuple[list[Mapping[str, Reals]], tuple[str, ...]]:
    """Each reader's module by names and shapes; where several ways are left, by order."""
    fits = [[i for i, m in enumerate(modules) if r.takes(m)] for r in readers]
    for reader, fitting in zip(readers, fits, strict=True):
        if not fitting:
            raise _without_module(reader, modules)
    chosen = _matching(fits, len(modules))
    if chosen is None or len(readers) != len(modules):
        raise ModelError(
            f"the weights beside the graph are those of {len(modules)} modules "
            f"({_shown(m.name for m in modules)}), and {len(readers)} nodes need some, of which "
            "names and shapes do not say whose are whose; name each node's module in its "
            "'debug_target'"
        )
    open_readers = _undecided(fits, chosen)
    if not open_readers:
        return [r.of(modules[i]) for r, i in zip(readers, chosen, strict=True)], ()
    left = iter(sorted(chosen[i] for i in open_readers))
    ordered = {i: next(left) for i in open_readers}
    chosen = [ordered.get(i, at) for i, at in enumerate(chosen)]
    names = [modules[chosen[i]].name for i in open_readers]
    in_place = all(chosen[i] in fits[i] for i in open_readers)
    if not in_place or (names != sorted(names, key=_counted) and _has_numbers(names)):
        raise ModelError(
            f"the weights of {_shown(names)} fit several nodes, and the order of the file is not "
            "that of the nodes or of the numbers in the names; name each node's module in its "
            "'debug_target'"
        )
    pairs = _shown(f"{modules[chosen[i]].name} → {readers[i].node}" for i in open_readers)
    note = f"weights that fit several nodes are taken in the order of the file: {pairs}"
    return [r.of(modules[i]) for r, i in zip(readers, chosen, strict=True)], (note,)


def _without_module(reader: Reader, modules: Sequence[Module]) -> ModelError:
    """Why no module fits: what is wrong with the only one that has the right names, if so."""
    named = [m for m in modules if reader.names(m)]
    try:
        reader.require(reader.of(named[0]) if named else {})
    except ModelError as error:
        return error
    raise AssertionError("a module fits after all")


def _matching(fits: Sequence[Sequence[int]], count: int) -> list[int] | None:
    """One module for each reader, none twice; None if there is no such choice."""
    owner: dict[int, int] = {}

    def placed(reader: int, tried: set[int]) -> bool:
        for module in fits[reader]:
            if module in tried:
                continue
            tried.add(module)
            if module not in owner or placed(owner[module], tried):
                owner[module] = reader
                return True
        return False

    if len(fits) > count or not all(placed(reader, set()) for reader in range(len(fits))):
        return None
    chosen = {reader: module for module, reader in owner.items()}
    return [chosen[reader] for reader in range(len(fits))]


def _undecided(fits: Sequence[Sequence[int]], chosen: Sequence[int]) -> list[int]:
    """Readers that another choice for all would give another module: those on cycles of
    exchanges."""
    owner = {module: reader for reader, module in enumerate(chosen)}
    import networkx as nx  # slow to import

    exchanges: nx.DiGraph[int] = nx.DiGraph()
    exchanges.add_nodes_from(range(len(fits)))
    for reader, fitting in enumerate(fits):
        others = (owner[m] for m in fitting if m in owner and owner[m] != reader)
        exchanges.add_edges_from((reader, other) for other in others)
    cycles = nx.strongly_connected_components(exchanges)
    return sorted(reader for cycle in cycles if len(cycle) > 1 for reader in cycle)


def _counted(name: str) -> list[tuple[int, int, str]]:
    """A key by which `layers.2` comes before `layers.10`."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts]


def _has_numbers(names: Sequence[str]) -> bool:
    return all(re.search(r"[0-9]", name) for name in names)


def _shown(names: Iterator[str] | Sequence[str]) -> str:
    every = list(names)
    return ", ".join(every[:6]) + (f", … ({len(every)})" if len(every) > 6 else "")
