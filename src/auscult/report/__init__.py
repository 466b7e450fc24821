"""One self-contained folder that shows what a profile's results are and where they come from."""
