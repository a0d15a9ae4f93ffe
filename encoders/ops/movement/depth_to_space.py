"""DepthToSpace and SpaceToDepth: channels rearranged into blocks of pixels, and back."""

from __future__ import annotations

import numpy as np

from encoders.families.gathering import Index, gather_operator
from encoders.families.movement import indices
from encoders.families.parameters import word
from encoders.operator import Site


def _block(site: Site) -> int:
    block = site.integer("blocksize", 0)
    if block < 1 or len(site.type_of(0).shape) != 4:
        raise site.unsupported(f"attribute 'blocksize' is {block}, or the input has not four axes")
    return block


def depth_to_space(site: Site) -> Index:
    """For each output element the flat position of the input element it is, blocks of channels laid
    out in space."""
    b, (n, c, h, w) = _block(site), site.type_of(0).shape
    index = indices((n, c, h, w))
    if word(site, "mode", "DCR", ("DCR", "CRD")) == "DCR":
        blocks = index.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        blocks = index.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return np.ascontiguousarray(blocks).reshape(n, c // b**2, h * b, w * b)


def space_to_depth(site: Site) -> Index:
    """For each output element the flat position of the input element it is, blocks of space stacked
    into channels."""
    b, (n, c, h, w) = _block(site), site.type_of(0).shape
    blocks = indices((n, c, h, w)).reshape(n, c, h // b, b, w // b, b)
    deep = word(site, "mode", "DCR", ("DCR", "CRD")) == "DCR"
    order = (0, 3, 5, 1, 2, 4) if deep else (0, 1, 3, 5, 2, 4)
    return np.ascontiguousarray(blocks.transpose(order)).reshape(n, c * b * b, h // b, w // b)


def _check_depth(site: Site) -> None:
    if site.type_of(0).shape[1] % _block(site) ** 2:
        raise site.unsupported("attribute 'blocksize' does not divide the channels")
    word(site, "mode", "DCR", ("DCR", "CRD"))


def _check_space(site: Site) -> None:
    block = _block(site)
    if any(n % block for n in site.type_of(0).shape[2:]):
        raise site.unsupported("attribute 'blocksize' does not divide the image")
    word(site, "mode", "DCR", ("DCR", "CRD"))


OPERATORS = (
    gather_operator("DepthToSpace", 1, depth_to_space, check=_check_depth).reading(
        "blocksize", "mode"
    ),
    gather_operator("SpaceToDepth", 1, space_to_depth, check=_check_space).reading(
        "blocksize", "mode"
    ),
)
