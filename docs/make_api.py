"""The API pages from the docstrings: `python docs/make_api.py [FOLDER]`. A warning is an error.

Needs what `pip install -e '.[docs]'` brings. The pages need no network to be read.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pdoc
import tqdm

# Type checkers know tqdm as generic, the class itself is not; annotations that say what a bar counts must be readable here.
tqdm.tqdm.__class_getitem__ = classmethod(lambda cls, item: cls)  # type: ignore[attr-defined]


def main(out: Path = Path("site")) -> None:
    warnings.simplefilter("error", UserWarning)
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc("auscult", output_directory=out)
    print(out / "index.html")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
