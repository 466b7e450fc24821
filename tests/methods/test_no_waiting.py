"""A training step on a GPU, without one: no tensor is on the wrong device, and nothing waits for the device.

Fake tensors know their shape and device and hold no values: an operation that needs a value on the host, or mixes devices,
fails as it would (or would wait) on a GPU. Gradients cannot be computed of them; a step with gradients runs on the CPU,
where operations whose result the host has to know are refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from auscult.features import FRONTENDS, frames, spectrogram
from auscult.methods import METHODS, load_method
from auscult.methods.base import Batch, Network, Shape
from auscult.training.loop import _update
from auscult.training.state import TrainingState
from support.draws import loss_of
from support.methods import small

CUDA = torch.device("cuda")
SAMPLES, CLIPS, CLASSES = 16000, 8, 4
VALUES = {"_local_scalar_dense", "item", "nonzero", "nonzero_static", "masked_select", "unique2", "_unique2", "equal"}
"""Operations whose result, or its shape, the host has to know."""
BY_GRADIENT = [name for name in METHODS if load_method(name).settings(method=name).trained]


class NoWaiting(TorchDispatchMode):
    """Raises where the host would wait for a device of this type."""

    def __init__(self, device: str = "cuda") -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in VALUES and any(isinstance(arg, Tensor) and arg.device.type == self.device for arg in args):
            raise AssertionError(f"{name} waits for the device")
        if name in ("index", "index_put", "index_put_"):
            masks = [
                i
                for i in args[1]
                if i is not None and i.dtype in (torch.bool, torch.uint8) and i.device.type == self.device
            ]
            assert not masks, f"{name} by a mask waits for the device"
        out = func(*args, **kwargs)
        if name == "_to_copy" and args[0].device != out.device:
            assert kwargs.get("non_blocking"), f"a copy from {args[0].device} to {out.device} waits"
            assert out.is_cuda, "values are fetched"
        if name == "copy_" and args[0].device != args[1].device:
            assert args[2] if len(args) > 2 else kwargs.get("non_blocking"), "a copy between devices waits"
        return out


@contextmanager
def pretended() -> Iterator[None]:
    """A GPU that computes nothing; what is cached meanwhile is forgotten, for it holds no values."""
    forget()
    try:
        with FakeTensorMode():
            yield
    finally:
        forget()


def forget() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("auscult"):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def move(network: Network) -> Network:
    """`network.to(CUDA)`: parameters and buffers move, a tensor that is neither does not."""
    moved: dict[Tensor, Tensor] = {}
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and tensor not in moved:
                    there = torch.empty(tensor.shape, dtype=tensor.dtype, device=CUDA)
                    if tensor.ndim == 4:
                        there = there.to(memory_format=torch.channels_last)
                    is_weight = isinstance(tensor, nn.Parameter)
                    moved[tensor] = nn.Parameter(there, tensor.requires_grad) if is_weight else there
                if tensor is not None:
                    tensors[name] = moved[tensor]  # type: ignore[assignment]
    return network


def shape_of(name: str) -> Shape:
    frontend = load_method(name).mel(small(name))
    mels, count = (FRONTENDS[frontend].mels, frames(SAMPLES, frontend)) if frontend else (0, 0)
    return Shape(CLASSES, mels, count, SAMPLES, unattributed=(0,))


def batch_of(name: str, device: torch.device) -> Batch:
    method, settings, shape = load_method(name), small(name), shape_of(name)
    label = torch.zeros(CLIPS, dtype=torch.int64, device=device)
    width = method.window(settings, shape.frames) or shape.frames
    mel = torch.zeros(CLIPS, shape.mels, width, device=device) if shape.mels else None
    if not method.wave(settings):
        return Batch(label=label, clip=label, mel=mel)
    valid = torch.full((CLIPS,), SAMPLES, device=device)
    return Batch(label=label, clip=label, mel=mel, wave=torch.zeros(CLIPS, SAMPLES, device=device), valid=valid)


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_a_loss_is_on_one_device_and_never_waits(name: str) -> None:
    for phase in load_method(name).trainings(small(name)):
        network = phase.build(shape_of(name))
        with pretended():
            live, batch, rng = move(network).train(), batch_of(name, CUDA), np.random.default_rng(0)
            for mode in (nullcontext(), NoWaiting()):  # constants are sent in the first step
                with mode:
                    drawn = {key: value.to(CUDA, non_blocking=True) for key, value in live.draw(batch, rng).items()}
                    parts = live.loss(batch, drawn)
            assert all(part.is_cuda and part.dtype == torch.float32 for part in parts.values())


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_a_whole_step_needs_no_value(name: str) -> None:
    for phase in load_method(name).trainings(small(name)):
        state = TrainingState.of(phase.build(shape_of(name)).train(), phase.settings)
        assert state.optimizer is not None
        batch, rng = batch_of(name, torch.device("cpu")), np.random.default_rng(0)
        for mode in (nullcontext(), NoWaiting("cpu")):  # the first step of an optimiser is another
            with mode:
                parts = loss_of(state.live, batch, rng)
                state.optimizer.zero_grad(set_to_none=True)
                parts["loss"].backward()
                _update(state.optimizer, 1e-3, 1.0)
                if state.ema:
                    state.ema.step()


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_a_log_mel_never_waits(frontend: str) -> None:
    with pretended():
        wave = torch.empty(CLIPS, SAMPLES, device=CUDA)
        spectrogram(wave, frontend)  # its constants are made once
        with NoWaiting():
            assert spectrogram(wave, frontend).is_cuda


def test_what_would_wait_is_found() -> None:
    """The test above can fail."""
    waits = [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: (x > 0).nonzero(),
        lambda x: x.cpu(),
        lambda x: x + torch.ones(3).to(CUDA),
    ]
    with pretended():
        x = torch.empty(3, device=CUDA)
        for wait in waits:
            with NoWaiting(), pytest.raises(AssertionError):
                wait(x)
        with NoWaiting(), pytest.raises(RuntimeError, match="device"):
            x + torch.ones(3)
