"""Putting the recordings of a data set in place; `fetch` is the entrance."""

from auscult.data.download.sources import fetch

__all__ = ["fetch"]
