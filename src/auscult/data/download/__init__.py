"""Putting the recordings of a data set in place."""
