"""Printed results of the three papers (package data, one CSV per printed table) and which arm reproduces which row."""

from auscult.papers.misprints import MISPRINTS, Misprint, misprint
from auscult.papers.printed import CONVENTION, PRINTED_ROW, convention, printed, printed_tables, table_name

__all__ = ["CONVENTION", "MISPRINTS", "PRINTED_ROW", "Misprint", "convention", "misprint", "printed", "printed_tables"]
__all__ += ["table_name"]
