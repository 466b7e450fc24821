"""Numbers as tables, pictures and pages."""
