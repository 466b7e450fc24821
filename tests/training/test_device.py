"""How a process is set up for its device: rounding, threads, and freed memory, which a CPU keeps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from auscult.data.resident import free_memory
from auscult.settings.training import Train
from auscult.training.batches import depth
from auscult.training.device import prepare

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = before
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(1)


@pytest.mark.parametrize(("matmul", "tf32"), [("highest", False), ("high", True)])
def test_products_and_convolutions_of_a_gpu_are_rounded_alike(matmul: str, tf32: bool) -> None:
    prepare(CUDA, Train.model_validate({"matmul": matmul, "threads": 1}))
    assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.allow_tf32 is tf32
    assert torch.backends.cuda.matmul.allow_tf32 is tf32
    assert torch.get_float32_matmul_precision() == matmul
    assert (torch.backends.cudnn.conv.fp32_precision == "tf32") is tf32, "what the kernels ask, by its newer name"
    assert (torch.backends.cuda.matmul.fp32_precision == "tf32") is tf32


def test_a_cpu_is_left_as_it_is_but_for_its_threads() -> None:
    prepare(CPU, Train(matmul="high", threads=2))
    assert torch.get_num_threads() == 2
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.benchmark


def test_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 9))
    assert free_memory(CUDA) == 5
    assert free_memory(CPU) is None


def test_a_cpu_reads_nothing_ahead() -> None:
    assert depth(CPU, 2) == 0
    assert depth(CUDA, 2) == 2
    assert depth(CUDA, 0) == 0


SCRIPT = """
import resource, sys, torch
from auscult.training.device import keep_freed_memory
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
