"""What training/test_distributed.py runs in two processes, and then in one: `processes.py <packed> <out>`.

Everything is in float64, so that two orders of the same sum are told apart from two different sums.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from auscult.data.store import ClipStore
from auscult.losses.supcon import noise_supcon
from auscult.methods import METHODS, load_method
from auscult.methods.base import Batch, Drawn, Network
from auscult.models.global_batch_norm import global_batch_norms
from auscult.settings.training import MethodSettings, Train
from auscult.training import distributed, launch
from auscult.training.arm import train_arm
from auscult.training.loss import training_loss
from support.methods import few_blocks, small

DIVISIBLE = [name for name in METHODS if load_method(name).divisible]
CONTRASTS = (1, 2, 7, 8)
TRAIN = Train(threads=1, device="cpu", checkpoint_seconds=0)
IMAGES = {
    "even": (8, 3, 4, 5), "uneven": (7, 3, 4, 5), "channels_last": (7, 3, 4, 5), "vectors": (5, 3), "signals": (5, 3, 6),
    "pair": (2, 3),
}  # fmt: skip


def settings_of(name: str) -> MethodSettings:
    """One epoch of two batches of unequal size, neither of which two processes can halve; without dropout.

    What dropout draws differs between processes, as their docs say.
    """
    values: dict[str, Any] = small(name, 1).model_dump()
    if not load_method(name).window(load_method(name).settings(method=name), 1000):
        values["batch_size"] = 7
    changes: dict[str, Any] = {
        "cnn10": {"dropout": 0.0},
        "clp_scf": {"pretrain": {**values.get("pretrain", {}), "batch_size": 7}},
        "os_scl": {"inputs": "logmel", "epochs": 2, "ema": {"decay": 0.5, "shrink": 1e-3}},
        "sc_adacos": {"sub_clusters": (1, 2)},
    }.get(name, {})
    return load_method(name).settings.model_validate(values | changes)


def norm_case(kind: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A batch norm with weights and statistics of its own, its input, and the gradient of its output."""
    torch.manual_seed(len(kind))
    shape = IMAGES[kind]
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](shape[1], momentum=0.3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    x, grad = 3 + 2 * torch.randn(shape), torch.randn(shape)
    return norm, x.to(memory_format=torch.channels_last) if kind == "channels_last" else x, grad


def normalised(kind: str) -> dict[str, Tensor]:
    """Output, gradients and running statistics; of this process's rows, its share of the weights' gradients."""
    norm, x, grad = norm_case(kind)
    holder = nn.Sequential(nn.Sequential(norm))
    keys = list(holder.state_dict())
    rows = slice(None)
    if distributed.size() > 1:
        global_batch_norms(holder)
        assert type(holder[0][0]).__name__ == "GlobalBatchNorm"
        rows = distributed.rows_of(distributed.rank(), len(x))
    assert list(holder.state_dict()) == keys
    mine = x[rows].detach().requires_grad_()
    y = holder(mine)
    y.backward(grad[rows])
    holder.eval()
    return {
        "y": y.detach(), "x": mine.grad, "weight": norm.weight.grad, "bias": norm.bias.grad, "eval": holder(x).detach(),
        **{key: value.clone() for key, value in holder.state_dict().items()},
    }  # fmt: skip


def contrast(clips: int) -> dict[str, Tensor]:
    """A contrastive loss over `clips` clips behind a small network, with centres behind the exchange; and its gradients."""
    torch.manual_seed(clips)
    encoder, centres = nn.Sequential(nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(8, 3)), nn.Linear(3, 2)
    x, label = torch.randn(clips, 4, 2), torch.arange(clips) % 2
    if distributed.size() > 1:
        global_batch_norms(encoder)

    class Toy(Network):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.centres = encoder, centres

        def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
            z = distributed.sharded(lambda part: self.encoder(part.wave), batch)
            unit = nn.functional.normalize(z)
            return {
                "loss": noise_supcon(unit, label, 0.5, 0.07, "mean")
                + nn.functional.cross_entropy(self.centres(unit), label)
            }

    loss = training_loss(Toy(), MethodSettings(method="toy"), TRAIN)
    for update in (False, True):  # accumulated: twice the gradient, sent once
        value = loss(Batch(label=label, wave=x), {}, update)["loss"]
        value.backward()
    grads = {f"grad_{i}": w.grad for i, w in enumerate([*encoder.parameters(), *centres.parameters()])}
    return {"loss": value.detach(), **grads, **{f"norm_{key}": value for key, value in encoder[0].state_dict().items()}}


class Stop(Exception):
    """An interruption."""


def train(settings: MethodSettings, packed: Path, out: Path, resume: Path, stop_after: int = 0) -> None:
    """`train_arm`, whose last update goes to `update<rank>.pt`.

    With `stop_after` it stands still before the epoch of that number (from 0), until a file `looked_at` is there, and stops.
    """
    plain, epochs = Network.train, 0

    def counted(module: nn.Module, mode: bool = True) -> nn.Module:
        nonlocal epochs
        epochs += mode and isinstance(module, Network)
        if stop_after and epochs > stop_after:
            (out.parent / f"still{distributed.rank()}").touch()
            while not (out.parent / "looked_at").exists():
                time.sleep(0.01)
            raise Stop
        return plain(module, mode)

    def seen(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        update.clear()
        update.extend((weight.detach().clone(), weight.grad) for weight in weights)

    update: list[tuple[Tensor, Tensor | None]] = []
    hook = register_optimizer_step_pre_hook(seen)
    Network.train = counted  # type: ignore[assignment, method-assign]
    try:
        train_arm(settings, "unit", TRAIN, 1, packed / "train", out / "model", resume, "code")
    except Stop:
        pass
    finally:
        Network.train = plain  # type: ignore[method-assign]
        hook.remove()
    out.mkdir(exist_ok=True, parents=True)
    torch.save(update, out / f"update{distributed.rank()}.pt")


def checks(packed: Path, out: Path) -> None:
    """Everything, results below `out`."""
    rank = distributed.rank()
    settings, shared = settings_of("os_scl"), out.parent / "shared"
    if distributed.size() > 1:
        train(settings, packed, out / "begun", shared, stop_after=1)
    else:
        train(settings, packed, out / "continued", shared)  # what the two processes began
    torch.save([distributed.all_equal(number, torch.device("cpu")) for number in (7, rank)], out / f"equal{rank}.pt")
    torch.save({kind: normalised(kind) for kind in IMAGES}, out / f"norms{rank}.pt")
    torch.save({clips: contrast(clips) for clips in CONTRASTS}, out / f"contrast{rank}.pt")
    for name in DIVISIBLE:
        train(settings_of(name), packed, out / name, out / "resume")


def compute_in_float64() -> None:
    """What is spelled out as float32 in losses and front-ends becomes float64, too."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    from_numpy = torch.from_numpy
    torch.from_numpy = lambda array: from_numpy(array.astype(np.float64) if array.dtype == np.float32 else array)
    for method in ("wave", "mel"):
        single = getattr(ClipStore, method)
        setattr(ClipStore, method, lambda self, *a, _single=single, **k: _single(self, *a, **k).double())


def main(packed: Path, out: Path) -> None:
    torch.set_num_threads(1)
    compute_in_float64()
    with few_blocks():
        checks(packed, out)


if __name__ == "__main__":
    packed, out = Path(sys.argv[1]), Path(sys.argv[2])
    for name in ("two", "one"):
        (out / name).mkdir()
    launch.spawn(main, (packed, out / "two"), 2)
    print("by one process", flush=True)
    main(packed, out / "one")
