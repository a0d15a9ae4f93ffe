"""One execution that `ort-cpu` allows, for tests that emulate what it leaves open."""

from dataclasses import replace

from encoders.contract.contract import BiasPlacement, Blocked, Contraction
from encoders.contract.presets import ORT_CPU

ORT_BLOCKS = replace(
    ORT_CPU,
    name="ort-blocks",
    order=Blocked(256),
    contraction=Contraction.ALWAYS,
    bias=BiasPlacement.AFTER_FIRST_BLOCK,
)
ORT_PLAIN = replace(ORT_BLOCKS, name="ort-plain", rules=())
