"""All recipes by name."""

from collections.abc import Mapping

from ffebm.recipes.deep_resistive import DEEP_RESISTIVE
from ffebm.recipes.paper import RECIPES
from ffebm.recipes.recipe import Experiment

ALL: Mapping[str, Experiment] = {**RECIPES, **DEEP_RESISTIVE}
"""Those of Nest & Ernoult, then deep resistive networks."""
