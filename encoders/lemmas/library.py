"""All lemmas that are applied to numbers."""

from __future__ import annotations

from encoders.lemmas import (
    carrying,
    choices,
    claims,
    combining,
    differences,
    domains,
    exponentials,
    functions,
    grids,
    normalizing,
    operations,
    products,
    rounding,
    rows,
    sums,
)
from encoders.lemmas.backward import paths
from encoders.lemmas.backward import rows as perturbed_rows
from encoders.lemmas.lemma import Lemma
from encoders.lemmas.ranges import functions as ranges_of_functions
from encoders.lemmas.ranges import operations as ranges_of_operations
from encoders.lemmas.ranges import reals
from encoders.lemmas.ranges import rows as ranges_of_rows
from encoders.lemmas.ways import relative

LEMMAS: tuple[Lemma, ...] = (
    *combining.LEMMAS,
    *rounding.LEMMAS,
    *operations.LEMMAS,
    *differences.LEMMAS,
    *carrying.LEMMAS,
    *functions.LEMMAS,
    *grids.LEMMAS,
    *products.LEMMAS,
    *choices.LEMMAS,
    *rows.LEMMAS,
    *exponentials.LEMMAS,
    *normalizing.LEMMAS,
    *sums.LEMMAS,
    *domains.LEMMAS,
    *claims.LEMMAS,
    *paths.LEMMAS,
    *perturbed_rows.LEMMAS,
    *relative.LEMMAS,
    *reals.LEMMAS,
    *ranges_of_functions.LEMMAS,
    *ranges_of_operations.LEMMAS,
    *ranges_of_rows.LEMMAS,
)
