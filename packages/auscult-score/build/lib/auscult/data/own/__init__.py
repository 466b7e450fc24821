"""Recordings of your own, cut into clips."""
