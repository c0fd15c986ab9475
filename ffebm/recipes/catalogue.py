"""All recipes by name."""

from collections.abc import Mapping

from ffebm.recipes.deep_resistive import DEEP_RESISTIVE, SAMPLES
from ffebm.recipes.paper import RECIPES
from ffebm.recipes.recipe import IMAGES, Experiment

ALL: Mapping[str, Experiment] = {**RECIPES, **DEEP_RESISTIVE}
"""Those of Nest & Ernoult, then deep resistive networks."""

DATA: tuple[str, ...] = tuple(dict.fromkeys([*IMAGES, *SAMPLES]))
"""What they train on."""
