"""Marabou's answer to a property in VNN-LIB 1, whose text is read here without refine.

    python benchmarks/marabou_answer.py NETWORK.onnx PROPERTY.vnnlib SECONDS

Run with a Python that has `maraboupy`, `onnx` and `onnxruntime`. A union is asked one conjunction
after the other, each for so many seconds. Prints `unsat` where none is reached, else the answer
that ended it.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

Terms = dict[str, float]
Rows = list[tuple[Terms, float]]


def expressions(text: str) -> list[Any]:
    tokens = re.findall(r"[()]|[^\s()]+", re.sub(r";[^\n]*", "", text))
    stack: list[list[Any]] = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    return stack[0]


def linear(e: Any) -> tuple[Terms, float]:
    if isinstance(e, str):
        return ({e: 1.0}, 0.0) if e[0] in "XY" else ({}, float(e))
    parts = [linear(x) for x in e[1:]]
    if e[0] == "*":
        (factor,) = (c for terms, c in parts if not terms)
        (terms,) = (terms for terms, _ in parts if terms)
        return {n: factor * v for n, v in terms.items()}, 0.0
    total: Terms = {}
    constant = 0.0
    for place, (terms, c) in enumerate(parts):
        sign = -1.0 if e[0] == "-" and (place or len(parts) == 1) else 1.0
        constant += sign * c
        for n, v in terms.items():
            total[n] = total.get(n, 0.0) + sign * v
    return total, constant


def cases(e: Any) -> list[Rows]:
    """The conjunctions of a formula, of rows terms ≤ number."""
    if e[0] == "and":
        found: list[Rows] = [[]]
        for x in e[1:]:
            found = [one + other for one in found for other in cases(x)]
        return found
    if e[0] == "or":
        return [case for x in e[1:] for case in cases(x)]
    if e[0] not in ("<=", ">="):
        raise SystemExit(f"{e[0]} is not read here")
    less, more = (linear(x) for x in (e[1:] if e[0] == "<=" else e[:0:-1]))
    terms = {n: less[0].get(n, 0.0) - more[0].get(n, 0.0) for n in {**less[0], **more[0]}}
    return [[(terms, more[1] - less[1])]]


def answer(network: str, rows: Rows, seconds: int) -> str:
    marabou = importlib.import_module("maraboupy.Marabou")
    core, utils = (importlib.import_module(f"maraboupy.Marabou{n}") for n in ("Core", "Utils"))
    net = marabou.read_onnx(network)
    inputs, outputs = (v[0].reshape(-1).tolist() for v in (net.inputVars, net.outputVars))
    for terms, limit in rows:
        named = {(inputs if n[0] == "X" else outputs)[int(n[2:])]: v for n, v in terms.items()}
        ((variable, factor), *more) = named.items()
        if not more and next(iter(terms))[0] == "X":
            bound = limit / factor
            if factor > 0:
                net.setUpperBound(variable, min(bound, net.upperBounds.get(variable, bound)))
            else:
                net.setLowerBound(variable, max(bound, net.lowerBounds.get(variable, bound)))
            continue
        equation = utils.Equation(core.Equation.LE)
        for variable, factor in named.items():
            equation.addAddend(factor, variable)
        equation.setScalar(limit)
        net.addEquation(equation)
    options = marabou.createOptions(verbosity=0, timeoutInSeconds=seconds)
    return str(net.solve(options=options, verbose=False)[0])


def main() -> None:
    network, file, seconds = sys.argv[1:]
    stated = [e[1] for e in expressions(Path(file).read_text()) if e[0] == "assert"]
    found = "unsat"
    for rows in cases(["and", *stated]):
        found = answer(network, rows, int(seconds))
        if found != "unsat":
            break
    print(found)


if __name__ == "__main__":
    main()
