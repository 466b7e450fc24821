"""Whether there is anything where a user points to: asked before torch is imported, which takes seconds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from auscult.errors import AuscultError


def require_bundle(folder: Path) -> None:
    if folder.suffix == ".onnx" and folder.is_file():
        what, fix = "`auscult score` alone takes an exported file", "give the folder that it was exported from"
        raise AuscultError(what, str(folder), fix)
    if not os.path.lexists(folder / "bundle.yaml"):
        raise AuscultError("there is no bundle here", str(folder), "make one: auscult fit RECORDINGS -o BUNDLE")


def require_method(name: str) -> None:
    from auscult.methods import METHODS
    from auscult.settings.section import near

    if name not in METHODS:
        raise AuscultError(f"there is no method `{name}`{near(name, METHODS)}", fix=f"use: {', '.join(METHODS)}")


def require_folder(folder: Path, wanted: str, fix: str) -> None:
    """
    Args:
        wanted: of what it should be a folder, such as `recordings`.
    """
    if not folder.is_dir():
        what = f"this is a file; a folder of {wanted} is wanted" if folder.exists() else "there is no such folder"
        raise AuscultError(what, str(folder), fix)


def require_some(files: Sequence[Path]) -> None:
    """Refuse files of which none exists; where one does, the others are told of one by one."""
    if not any(os.path.lexists(file) for file in files):
        raise AuscultError("there is no such file or folder", str(files[0]), "give recordings, or folders of them")


def require_new_bundle(out: Path, force: bool) -> None:
    """Refuse a place that holds something else than a bundle, or a bundle that is not to be replaced."""
    if not out.name or out.name == "..":
        raise AuscultError("a bundle is a folder with a name", str(out), "say -o pump.bundle")
    if not out.exists():
        return
    if not (out / "bundle.yaml").is_file():
        if out.is_dir() and not any(out.iterdir()):
            return
        raise AuscultError("this exists and is no bundle", str(out), "choose another name")
    if not force:
        raise AuscultError("there is a bundle already", str(out), "choose another name, or replace it with --force")


def require_page(out: Path) -> None:
    """Refuse a place where no page can be written."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise AuscultError("a page is a file whose name ends in .html", str(out), "say --html page.html")
    if out.is_dir():
        raise AuscultError("this is a folder, and a page is one file", str(out), "say --html page.html")
    if not out.parent.is_dir():
        raise AuscultError("there is no such folder to write the page to", str(out.parent), "make it first")
    if not os.access(out.parent, os.W_OK):
        raise AuscultError("the page cannot be written: no permission", str(out.parent), "choose another place")
