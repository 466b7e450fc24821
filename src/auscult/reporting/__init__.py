"""Tables and figures from the long tables of `evaluation`: no torch, no network, no audio."""
