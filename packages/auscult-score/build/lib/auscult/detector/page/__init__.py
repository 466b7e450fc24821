"""The pages of `auscult score --html` and `auscult fit --html`: one file each, for someone who runs a machine."""
