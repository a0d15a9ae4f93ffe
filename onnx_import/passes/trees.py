"""Ensembles of trees as comparisons with their thresholds and choices between two subtrees.

All nodes that are equally far above the leaves are one comparison and one Where, so that there are
as many of them as the deepest tree is deep. A threshold that the bounds of a feature decide costs
nothing; one that an error of the feature can cross is charged with what lies between its subtrees.
Leaves are added up over the trees in one sum, in whatever order the contract leaves open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_import.graph import Array
from onnx_import.passes.body import Body

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_RELATIONS = {
    "BRANCH_LEQ": "LessOrEqual", "BRANCH_LT": "Less", "BRANCH_GTE": "GreaterOrEqual",
    "BRANCH_GT": "Greater", "BRANCH_EQ": "Equal", "BRANCH_NEQ": "Equal",
}  # fmt: skip
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
_COMPLEMENTS = {"LessOrEqual": "Greater", "GreaterOrEqual": "Less"}
_WITH_EQUAL = 12  # the opset from which on ONNX has the former
_MOST_NODES = 2**20
_MOST_NUMBERS = 2**26  # of all rows, leaves and targets
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


@dataclass(frozen=True)
class Forest:
    """Trees: inner nodes with their relation, feature, threshold and subtrees; what leaves give.

    A subtree is a number: from 0 on a leaf, a row of `leaves` (leaves, targets), and -1 - k the
    inner node k. `roots` are subtrees, too.
    """

    relations: tuple[str, ...]
    features: Ints
    thresholds: Array
    true: Ints
    false: Ints
    roots: Ints
    leaves: Array


def word(body: Body, name: str, default: str) -> str:
    """A text attribute."""
    value = body.number(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)


def words(body: Body, name: str) -> list[str]:
    """An attribute that lists texts."""
    return [v.decode() if isinstance(v, bytes) else str(v) for v in body.number(name, ())]


def listed(body: Body, name: str) -> Array | None:
    """Numbers given as a list of floats, or as a tensor; None where there are none."""
    held = body.number(f"{name}_as_tensor", None)
    if isinstance(held, np.ndarray) and held.size:
        return held.reshape(-1)
    plain = body.number(name, ())
    return np.array(plain, np.float32) if len(plain) else None


def integers(body: Body, name: str) -> Ints:
    """An attribute that lists integers."""
    return np.array(body.number(name, ()), np.int64)


def old_forest(body: Body, kind: str, targets: int) -> Forest:
    """A forest by the attributes of TreeEnsembleRegressor (`kind` target) and Classifier (class).

    Raises UnsupportedModel for nodes that do not make trees.
    """
    trees, numbers = integers(body, "nodes_treeids"), integers(body, "nodes_nodeids")
    modes = words(body, "nodes_modes")
    places = {key: k for k, key in enumerate(zip(trees.tolist(), numbers.tolist(), strict=True))}
    if len(places) < len(trees):
        raise body.unsupported("two of its nodes have one number; export the model again")
    features = integers(body, "nodes_featureids")
    values = listed(body, "nodes_values")
    thresholds = np.zeros(len(trees), np.float32) if values is None else values
    inner = [k for k, mode in enumerate(modes) if mode != "LEAF"]
    rank = {k: -1 - i for i, k in enumerate(inner)}
    rank |= {k: i for i, k in enumerate(k for k, mode in enumerate(modes) if mode == "LEAF")}
    true, false = (integers(body, f"nodes_{side}nodeids") for side in ("true", "false"))
    below = [[rank[places[int(trees[k]), int(side[k])]] for k in inner] for side in (true, false)]
    children = {places[int(trees[k]), int(s[k])] for k in inner for s in (true, false)}
    first: dict[int, int] = {}
    for k, tree in enumerate(trees.tolist()):
        if k not in children:
            if tree in first:
                raise body.unsupported(f"its tree {tree} has two roots; export the model again")
            first[tree] = k
    if len(first) < len(set(trees.tolist())):
        raise body.unsupported("one of its trees has no root; export the model again")
    starts = [k for k in range(len(trees)) if not k or trees[k] != trees[k - 1]]
    if sorted(first.values()) != starts:
        raise body.unsupported(
            "the nodes of a tree do not stand together, its root first; runtimes differ in what "
            "they make of that"
        )
    leaves = _weights(body, kind, targets, places, rank, len(modes) - len(inner))
    return Forest(
        tuple(modes[k] for k in inner), features[inner], thresholds[inner],
        np.array(below[0], np.int64), np.array(below[1], np.int64),
        np.array([rank[k] for k in first.values()], np.int64), leaves,
    )  # fmt: skip


def _weights(
    body: Body,
    kind: str,
    targets: int,
    places: Mapping[tuple[int, int], int],
    rank: Mapping[int, int],
    count: int,
) -> Array:
    """What each leaf gives to each target, shape (leaves, targets)."""
    trees, nodes = integers(body, f"{kind}_treeids"), integers(body, f"{kind}_nodeids")
    ids, weights = integers(body, f"{kind}_ids"), listed(body, f"{kind}_weights")
    given = np.zeros(len(ids), np.float32) if weights is None else weights
    found = _nothing(body, count, targets, given.dtype)
    seen: set[tuple[int, int]] = set()
    for tree, node, target, weight in zip(
        trees.tolist(), nodes.tolist(), ids.tolist(), given, strict=True
    ):
        leaf = rank[places[tree, node]]
        if leaf < 0:
            raise body.unsupported(f"node {node} of tree {tree} has a weight and is no leaf")
        if not 0 <= target < targets:
            raise body.unsupported(f"target {target} is out of range for {targets}")
        if (leaf, target) in seen:
            raise body.unsupported(f"leaf {node} of tree {tree} has two weights for one target")
        seen.add((leaf, target))
        found[leaf, target] = weight
    return found


def new_forest(body: Body, targets: int) -> Forest:
    """A forest by the attributes of TreeEnsemble. Raises UnsupportedModel."""
    splits = np.asarray(body.number("nodes_splits", np.zeros(0, np.float32)))
    modes = np.asarray(body.number("nodes_modes", np.zeros(0, np.uint8))).astype(int)
    if np.any(modes >= len(_MODES)):
        raise body.unsupported("a node asks whether a feature is a member of a set")
    weights = np.asarray(body.number("leaf_weights", np.zeros(0, np.float32)))
    ids = integers(body, "leaf_targetids")
    leaves = _nothing(body, len(ids), targets, weights.dtype)
    leaves[np.arange(len(ids)), ids] = weights
    sides = []
    for side in ("true", "false"):
        at, leaf = integers(body, f"nodes_{side}nodeids"), integers(body, f"nodes_{side}leafs")
        sides.append(np.where(leaf != 0, at, -1 - at))
    roots = -1 - integers(body, "tree_roots")
    for i, root in enumerate(roots):
        k = -1 - root
        if sides[0][k] >= 0 and sides[0][k] == sides[1][k]:
            roots[i] = sides[0][k]  # a tree that is one leaf
    return Forest(
        tuple(_MODES[m] for m in modes), integers(body, "nodes_featureids"), splits,
        sides[0], sides[1], roots, leaves,
    )  # fmt: skip


def _nothing(body: Body, leaves: int, targets: int, kind: np.dtype[Any]) -> Array:
    """What leaves give before weights are read. Raises UnsupportedModel for too many numbers."""
    rows = body.shape(0)[0] if body.shape(0) else 1
    if targets < 1 or rows * leaves * targets > _MOST_NUMBERS:
        raise body.unsupported(
            f"it has {leaves} leaves and {targets} targets for {rows} rows; supported are "
            f"{_MOST_NUMBERS} numbers together"
        )
    return np.zeros((leaves, targets), kind)


def grown(body: Body, x: str, forest: Forest) -> str:
    """What every tree gives, shape (rows, trees, targets), of features x (rows, features)."""
    rows, features = body.types[body.node.inputs[0]].shape
    kind = body.types[body.node.inputs[0]].dtype.numpy
    _require_sound(body, forest, features)
    heights = _heights(body, forest)
    place = {int(k): int(k) for k in range(len(forest.leaves))}
    whole = np.broadcast_to(forest.leaves, (rows, *forest.leaves.shape))
    pool = body.store(np.ascontiguousarray(whole))
    count = len(forest.leaves)
    for height in range(1, max(heights, default=0) + 1):
        level = [k for k, h in enumerate(heights) if h == height]
        for relation in dict.fromkeys(forest.relations[k] for k in level):
            nodes = [k for k in level if forest.relations[k] == relation]
            tall = forest.features[nodes][:, None]
            feature = body.add("Gather", x, body.store(tall), axis=1)
            limit = body.store(forest.thresholds[nodes].astype(kind)[:, None])
            asked, turned = _RELATIONS[relation], relation == "BRANCH_NEQ"
            if body.node.opset < _WITH_EQUAL and asked in _COMPLEMENTS:
                asked, turned = _COMPLEMENTS[asked], True
            holds = body.add(asked, feature, limit)
            sides = [[place[int(side[k])] for k in nodes] for side in (forest.true, forest.false)]
            yes, no = (
                body.add("Gather", pool, body.store(np.array(side, np.int64)), axis=1)
                for side in (sides[::-1] if turned else sides)
            )
            chosen = body.add("Where", holds, yes, no)
            pool = body.add("Concat", pool, chosen, axis=1)
            place.update((-1 - k, count + i) for i, k in enumerate(nodes))
            count += len(nodes)
    roots = body.store(np.array([place[int(r)] for r in forest.roots], np.int64))
    return body.add("Gather", pool, roots, axis=1)


def _require_sound(body: Body, forest: Forest, features: int) -> None:
    inner, leaves = len(forest.relations), len(forest.leaves)
    if inner + leaves > _MOST_NODES:
        raise body.unsupported(f"it has {inner + leaves} nodes; supported are {_MOST_NODES}")
    unknown = sorted(set(forest.relations) - set(_RELATIONS))
    if unknown:
        raise body.unsupported(f"a node's mode is '{unknown[0]}', which is not supported")
    if inner and not (forest.features.min() >= 0 and forest.features.max() < features):
        raise body.unsupported(f"a node reads a feature that is none of the {features}")
    every = np.concatenate((forest.true, forest.false, forest.roots))
    if len(every) and not (every.min() >= -inner and every.max() < leaves):
        raise body.unsupported("a node has a subtree that is not there; export the model again")
    kind = body.types[body.node.inputs[0]].dtype.numpy
    if np.any(forest.thresholds.astype(kind) != forest.thresholds):
        raise body.unsupported(f"a threshold is no {kind.name} number")
    if not np.all(np.isfinite(forest.thresholds)):
        raise body.unsupported("a threshold is no finite number")


def _heights(body: Body, forest: Forest) -> list[int]:
    """How far each inner node is above its lowest leaf. Raises UnsupportedModel for a cycle."""
    heights = [0] * len(forest.relations)
    parents: list[list[int]] = [[] for _ in heights]
    missing = [0] * len(heights)
    for k in range(len(heights)):
        for child in (int(forest.true[k]), int(forest.false[k])):
            if child < 0:
                parents[-1 - child].append(k)
                missing[k] += 1
    ready = [k for k, n in enumerate(missing) if not n]
    done = 0
    while ready:
        k = ready.pop()
        done += 1
        below = [heights[-1 - int(c)] for c in (forest.true[k], forest.false[k]) if c < 0]
        heights[k] = 1 + max(below, default=0)
        for parent in parents[k]:
            missing[parent] -= 1
            if not missing[parent]:
                ready.append(parent)
    if done < len(heights):
        raise body.unsupported("a node is its own descendant; export the model again")
    return heights


def aggregated(body: Body, trees: str, how: str, base: Array | None, leaves: Array) -> str:
    """One number for each target, shape (rows, targets), of what the trees give."""
    rows = body.types[body.node.inputs[0]].shape[0]
    if how not in _AGGREGATES:
        raise body.unsupported(f"attribute 'aggregate_function' is '{how}'")
    if base is not None and len(base) not in (1, leaves.shape[1]):
        raise body.unsupported(f"it has {len(base)} base values, and {leaves.shape[1]} targets")
    start = None if base is None else body.store(base.astype(leaves.dtype))
    if how in ("MIN", "MAX"):
        if leaves.shape[1] > 1:
            raise body.unsupported(f"'aggregate_function' {how} of several targets")
        found = body.over(f"Reduce{how.title()}", trees, [1])
        return found if start is None else body.add("Add", found, start)
    if how == "AVERAGE" or start is None:
        total = body.over("ReduceSum" if how == "SUM" else "ReduceMean", trees, [1])
        return total if start is None else body.add("Add", total, start)
    assert base is not None
    tall = np.broadcast_to(base.astype(leaves.dtype), (rows, 1, leaves.shape[1]))
    held = body.store(np.ascontiguousarray(tall))
    return body.over("ReduceSum", body.add("Concat", trees, held, axis=1), [1])


def regressed(body: Body, scores: str, targets: int) -> str:
    """The scores of a regressor after the attribute `post_transform`."""
    how = word(body, "post_transform", "NONE")
    if targets == 1 and how in ("LOGISTIC", "SOFTMAX"):
        raise body.unsupported(
            f"of one target onnxruntime leaves out 'post_transform' {how}, which ONNX defines; "
            "put a node behind it"
        )
    return softened(body, scores)


def softened(
    body: Body, scores: str, known: Sequence[str] = ("NONE", "LOGISTIC", "SOFTMAX")
) -> str:
    """The scores after the attribute `post_transform`."""
    how = word(body, "post_transform", "NONE")
    if how not in known:
        raise body.unsupported(
            f"attribute 'post_transform' is '{how}' here, which is not supported"
        )
    if how == "LOGISTIC":
        return body.add("Sigmoid", scores)
    return body.add("Softmax", scores, axis=1) if how == "SOFTMAX" else scores
