"""What the path of a recording says."""
