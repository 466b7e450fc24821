"""The stages, the files that declare them, and what their results depend on."""
