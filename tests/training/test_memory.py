"""Keeping freed memory: fewer pages are cleared again, and numbers stay the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from auscult.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
x = torch.ones(16_000_000)
for step in range(30):
    if step == 25:  # the first steps find their place
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    y = x + 1
    total = y.sum().item()
    del y
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, total)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_pages_are_used_again() -> None:
    faults = {}
    for mode in ("default", "keep"):
        run = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True)
        count, total = run.stdout.split()
        faults[mode] = int(count)
        assert float(total) == 32_000_000
    assert faults["default"] > 300  # five arrays of 64 MB, in pages of 4 KB or 2 MB
    assert faults["keep"] < faults["default"] / 10
