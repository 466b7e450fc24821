"""`auscult export`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from auscult.commands import Command


def export(parser: ArgumentParser) -> Command:
    """write a bundle as one ONNX file

    Front-end, network and back-end: `waveform` float32 [n, window] in, `score` float32 [n] out. Sample rate, window, hop,
    channel and threshold stand in the file's metadata. Before it is kept, onnxruntime must give the scores that the bundle
    gives, to 1e-4. Which methods can be exported: docs/deploy.md. Needs: pip install "auscult[export]".

    Example: auscult export pump.bundle -o pump.onnx
    """
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder made by `auscult fit`")
    parser.add_argument("-o", "--out", metavar="FILE", type=Path, required=True, help="such as model.onnx")
    parser.add_argument("--json", action="store_true", help="for programs")
    return _run


def _run(arguments: Namespace) -> int:
    from auscult.detector.folder import load
    from auscult.errors import AuscultError

    if arguments.out.suffix != ".onnx":
        raise AuscultError("the output is an ONNX file", str(arguments.out), "name it .onnx")
    bundle = load(arguments.bundle)
    from auscult.detector.onnx.export import export as export_bundle  # torch: after what may be wrong

    done = export_bundle(bundle, arguments.out)
    if arguments.json:
        facts = {"file": str(done.path), "bytes": done.path.stat().st_size, "window": bundle.window}
        print(json.dumps({**facts, "difference": done.difference, "checked": done.checked}, indent=1))
        return 0
    seconds = bundle.window / bundle.sample_rate
    print(
        f"{done.path}: {done.path.stat().st_size / 2**20:.1f} MiB, windows of {seconds:g} s ({bundle.window} samples)"
    )
    print(f"scores agree with the bundle's to {done.difference:.1e} on {done.checked} windows")
    return 0
