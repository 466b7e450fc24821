"""From scores and labels to numbers with intervals."""
