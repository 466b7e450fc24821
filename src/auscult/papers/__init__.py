"""Printed results of the three papers (package data, one CSV per printed table) and which arm reproduces which row."""

from auscult.papers.printed import CONVENTION, PRINTED_ROW, printed, printed_tables

__all__ = ["CONVENTION", "PRINTED_ROW", "printed", "printed_tables"]
