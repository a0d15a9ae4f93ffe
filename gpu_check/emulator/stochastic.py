"""Executions whose every operation rounds stochastically, drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from encoders.arithmetic.numpy_arithmetic import Carrier
from encoders.arithmetic.stochastic import StochasticArithmetic
from encoders.contract.contract import RoundingMode, RuntimeContract
from gpu_check.emulator.emulator import emulate
from onnx_import.graph import Graph


def drawn(
    graph: Graph, inputs: Mapping[str, Carrier], contract: RuntimeContract, seed: int
) -> Mapping[str, Carrier]:
    """One execution for each sample, of arrays (samples, *tensor shape) as for `emulate`.

    Every operation draws anew for every element and sample; what is computed of stored numbers
    alone is drawn once for all of them. Raises ValueError for a contract that rounds otherwise or
    leaves something else open, and for formats of more than 24 digits.
    """
    if contract.rounding is not RoundingMode.STOCHASTIC:
        raise ValueError(f"contract '{contract.name}' does not round stochastically")
    arithmetic = partial(StochasticArithmetic, rng=np.random.default_rng(seed))
    return emulate(graph, inputs, contract, arithmetic=arithmetic)
