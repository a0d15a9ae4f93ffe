"""The properties of VNN-COMP under ../shared/models, settled for the float32 network that runs.

    python benchmarks/properties.py [PATTERN ...] [--seconds S] [--contract NAME] [--save FILE]
                                    [--table FILE]

ACAS Xu: properties 1 to 4 of 27 networks. Each other family: a property goes with the network
whose name its own begins with, else with every network of the folder. PATTERN chooses among
`family/network property`. The list is run by `refine bench`, each instance for as long as --seconds
says; --save names its JSON, from which a run
goes on; counterexamples are kept beside it. --table is where the answers alone go. `--list` prints
the list alone.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measuring import MODELS, save

from refine.cli.main import run

SECONDS = 116.0  # of ACAS Xu at VNN-COMP
ACAS = "acasxu"
OF_ACAS = ("prop_1", "prop_2", "prop_3", "prop_4")
WITHOUT = ("controllers", "layer_zoo", "shipped")  # no properties, or domains alone


def instances(models: Path) -> Iterator[tuple[Path, Path]]:
    """Every network with a property of its own."""
    for folder in sorted(p for p in models.iterdir() if p.is_dir() and p.name not in WITHOUT):
        networks = sorted(folder.glob("*.onnx"))
        for network in networks:
            for file in sorted(folder.glob("*.vnnlib")):
                if folder.name == ACAS and file.stem not in OF_ACAS:
                    continue
                if network in own(networks, file):
                    yield network, file


def own(networks: list[Path], file: Path) -> list[Path]:
    """The networks that a property is about."""
    named = [n for n in networks if file.stem.startswith(n.stem)]
    return [max(named, key=lambda n: len(n.stem))] if named else networks


def wanted(network: Path, file: Path, patterns: list[str]) -> bool:
    name = f"{network.parent.name}/{network.stem} {file.stem}"
    return not patterns or any(fnmatch.fnmatch(name, f"*{p}*") for p in patterns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--contract", default="ieee-any")
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    every = instances(given.models.resolve())
    rows = [f"{n},{f},{given.seconds}" for n, f in every if wanted(n, f, given.patterns)]
    if given.list:
        print("\n".join(rows))
        return
    with TemporaryDirectory() as folder:
        listed = Path(folder) / "instances.csv"
        listed.write_text("\n".join(rows) + "\n")
        options = ["--contract", given.contract]
        if given.save is None:
            options += ["--counterexamples", str(Path(folder) / "found")]
        else:
            found = given.save.with_name(f"{given.save.stem}-counterexamples")
            options += ["--counterexamples", str(found), "--json", str(given.save), "--resume"]
        code = run(["bench", str(listed), *options])
        if given.table is not None and given.save is not None:
            save(
                given.table,
                answers(json.loads(given.save.read_text())["rows"]),
                seconds=given.seconds,
                contract=given.contract,
            )
        sys.exit(code.value)


def answers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is kept of each instance: its answer, margins, and on how many runtimes a violation was
    seen."""
    return [
        {
            "instance": f"{Path(r['model']).parent.name}/{Path(r['model']).stem}",
            "property": Path(r["vnnlib"]).stem,
            "answer": r["standing"],
            "margin": r["margin"],
            "over_the_reals": r["margin_over_reals"],
            "confirmed": len(r["confirmed"]),
            "seconds": round(r["seconds"], 1),
        }
        for r in rows
    ]


if __name__ == "__main__":
    main()
