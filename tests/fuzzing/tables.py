"""Random contract files: every key, alone and with the others, as TOML that is read back."""

from __future__ import annotations

from typing import Any

import numpy as np
import tomli_w

Table = dict[str, Any]

NAMED = ("float16", "bfloat16", "float32", "float64", "tf32")
WHERE = ("operator", "node", "terms", "rows", "columns", "constant", "type", "plain", "written")
PRESETS = ("ieee-any", "sequential", "sequential-fma", "pairwise", "ort-cpu", "fp16", "bf16",
           "cuda-fp32", "cuda-tf32", "cuda-fp16")  # fmt: skip


class Tables:
    """Draws contract files that speak of the nodes of one model."""

    def __init__(self, rng: np.random.Generator, nodes: list[tuple[str, str]]) -> None:
        self.rng, self.nodes = rng, nodes

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def text(self) -> str:
        return tomli_w.dumps(self.table())

    def table(self) -> Table:
        table: Table = {"name": "random"}
        if self.chance(0.25):
            table["base"] = self.pick(*PRESETS)
        if self.chance(0.7):
            table |= self.order()
        for key, words in (
            ("fma", ("never", "always", "either")),
            ("bias", ("first", "last", "after-first-block", "any")),
            ("subnormal_results", ("gradual", "flush", "either")),
            ("subnormal_operands", ("gradual", "flush", "either")),
            ("normalization", ("folded", "direct", "reciprocal", "either")),
            ("factor_rounding", ("nearest", "toward-zero", "any")),
            ("functions", ("conservative", "correctly-rounded", "onnxruntime", "cuda")),
        ):
            if self.chance(0.6):
                table[key] = self.pick(*words)
        for key, share in (("format", 0.6), ("weights", 0.4), ("accumulation", 0.5),
                           ("factors", 0.4)):  # fmt: skip
            if self.chance(share):
                table[key] = self.format() if self.chance(0.4) else self.usual(key)
        if self.chance(0.3):
            table["rules"] = [self.rule() for _ in range(int(self.rng.integers(1, 4)))]
        return table

    def usual(self, key: str) -> Any:
        """A format that has a meaning for most tensors."""
        if key == "accumulation":
            return self.pick("float32", "float32", "float64")
        if key != "factors":
            return self.pick("float16", "bfloat16", "float32")
        emax = self.pick(127, 127, 15)
        precision = int(self.rng.integers(2, 11))
        return {"name": "short", "precision": precision, "emin": 1 - emax, "emax": emax}

    def format(self) -> Any:
        """A name, a small format, an uneven range, or a named one's range with other digits."""
        kind = int(self.rng.integers(10))
        if kind < 4:
            return self.pick(*NAMED)
        precision = int(self.rng.integers(2, 14))
        if kind < 7:
            emax = 2 ** int(self.rng.integers(2, 8)) - 1
            return {"name": "small", "precision": precision, "emin": 1 - emax, "emax": emax}
        if kind < 9:
            emax = self.pick(15, 127)
            return {"name": "short", "precision": precision, "emin": 1 - emax, "emax": emax}
        emin, emax = -int(self.rng.integers(1, 60)), int(self.rng.integers(1, 60))
        return {"name": "uneven", "precision": precision, "emin": emin, "emax": emax}

    def order(self) -> Table:
        match self.pick("any", "aligned", "steps", "sequential", "pairwise", "blocked", "blocks",
                        "lanes"):  # fmt: skip
            case "aligned":
                return {"order": "any", "alignment": int(self.rng.integers(5, 41))}
            case "steps":
                bits = int(self.rng.integers(5, 41))
                return {"order": "steps", "step": self.pick(1, 2, 4, 16), "alignment": bits}
            case "blocked":
                return {"order": "blocked", "block": self.pick(1, 2, 3, 8)}
            case "blocks":
                return {"order": "blocks", "blocks": self.pick([2, 3], [1], [4, 4, 4])}
            case "lanes":
                return {"order": "lanes", "lanes": self.pick(1, 2, 4)}
            case order:
                return {"order": order}

    def rule(self) -> Table:
        op, node = self.nodes[int(self.rng.integers(len(self.nodes)))]
        places = {
            "operator": op,
            "node": node,
            "terms": self.pick(1, 2, 3, 8, {"least": 2}, {"least": 2, "most": 8}),
            "rows": self.pick(1, 2, {"most": 2}),
            "columns": self.pick(1, 2, 3, {"least": 1}),
            "constant": self.chance(0.5),
            "type": self.pick("float32", "float32", "float16"),
            "plain": self.chance(0.5),
            "written": self.chance(0.8),
        }
        rule: Table = {key: places[key] for key in WHERE if self.chance(0.2)}
        rule |= self.order() if self.chance(0.8) else {}
        for key, words in (
            ("fma", ("never", "always", "either")),
            ("bias", ("first", "last", "after-first-block", "any")),
        ):
            if self.chance(0.6):
                rule[key] = self.pick(*words)
        return rule
