"""How a process is set up for its device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from auscult.settings.training import Train
from auscult.training.batches import depth
from auscult.training.device import prepare
from auscult.training.memory import free_memory

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
