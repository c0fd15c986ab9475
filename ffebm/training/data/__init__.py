"""Labelled data: bundled, in published file formats, or arrays of the user's own."""

from ffebm.training.data.load import load_data
from ffebm.training.data.samples import Data

__all__ = ["Data", "load_data"]
