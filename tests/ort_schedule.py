"""One execution that `ort-cpu` allows, for tests that emulate what it leaves open."""

from dataclasses import replace

from encoders.contract.contract import ORT_CPU, BiasPlacement, Blocked, Contraction

ORT_BLOCKS = replace(
    ORT_CPU,
    name="ort-blocks",
    order=Blocked(256),
    contraction=Contraction.ALWAYS,
    bias=BiasPlacement.AFTER_FIRST_BLOCK,
)
ORT_PLAIN = replace(ORT_BLOCKS, name="ort-plain", rules=())
