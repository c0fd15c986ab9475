"""Labelled data: bundled, in published file formats, or arrays of the user's own."""

from ffebm.runtime.data.load import load_data
from ffebm.runtime.data.samples import Data

__all__ = ["Data", "load_data"]
