"""Reproducible experiment pipeline for machine anomalous sound detection (ASD)."""

__version__ = "0.1.0"
