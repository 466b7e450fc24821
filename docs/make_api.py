"""The API pages from the docstrings: `python docs/make_api.py [FOLDER]`. A warning is an error.

Needs what `pip install -e '.[docs]'` brings. The pages need no network to be read.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import mlflow.pyfunc  # noqa: F401  (before pdoc, which lets no import run programs)
import pdoc
import tqdm
from pdoc import doc, extract

# Type checkers know tqdm as generic, the class itself is not; annotations that say what a bar counts must be readable here.
tqdm.tqdm.__class_getitem__ = classmethod(lambda cls, item: cls)  # type: ignore[attr-defined]


def read(*modules: str) -> int:
    """Read every docstring, signature and annotation of `modules` and those below as the pages would, writing none.

    Returns how many were read; raises UserWarning on the first that cannot be.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return sum(_read(doc.Module(extract.load_module(name))) for name in extract.walk_specs(modules))


def _read(one: doc.Doc[Any]) -> int:
    assert one.docstring is not None
    if isinstance(one, doc.Function):
        str(one.signature)
    if isinstance(one, doc.Variable):
        str(one.annotation_str)
    below = one.own_members if isinstance(one, doc.Namespace) else []
    return 1 + sum(_read(member) for member in below if member.name == "__init__" or not member.name.startswith("_"))


def main(out: Path = Path("site")) -> None:
    warnings.simplefilter("error", UserWarning)
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc("auscult", output_directory=out)
    print(out / "index.html")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
