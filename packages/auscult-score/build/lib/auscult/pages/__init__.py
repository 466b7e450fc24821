"""What every page shares: templates, style, theme and sorting; spectrograms, sounds, and where two sounds differ."""
