"""Kept for auscult.pipeline alone; see auscult.encoders."""

from auscult.encoders import MODULES as MODULES
from auscult.encoders import encoder_file as encoder_file
