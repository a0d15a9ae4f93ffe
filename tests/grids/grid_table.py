"""The grids of every operator that can be imported: its inputs and all attributes of ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grid_cases import Grid
from grid_constants import CONSTANTS
from grid_elementwise import ELEMENTWISE
from grid_functions import FUNCTIONS
from grid_gathers import GATHERS
from grid_movements import MOVEMENTS
from grid_picked import ARRANGED, PICKED
from grid_products import PRODUCTS
from grid_quantized import QUANTIZED
from grid_resizes import RESIZES
from grid_windows import WINDOWS

GRIDS: Mapping[str, Sequence[Grid]] = {
    **ARRANGED,
    **CONSTANTS,
    **ELEMENTWISE,
    **FUNCTIONS,
    **GATHERS,
    **MOVEMENTS,
    **PICKED,
    **PRODUCTS,
    **QUANTIZED,
    **RESIZES,
    **WINDOWS,
}
