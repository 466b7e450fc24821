"""Synthetic machines: sound of six machine types from documented physical models, no network and no files needed."""

from auscult.data.synthetic.render import generate_clips
from auscult.data.synthetic.source import FarMicrophone, SyntheticSource, UnitSets
from auscult.data.synthetic.tree import write_tree

__all__ = ["FarMicrophone", "SyntheticSource", "UnitSets", "generate_clips", "write_tree"]
