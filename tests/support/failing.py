"""Work of a spawned process that is to fail: in a module of its own, since the new process imports it by its name."""

from __future__ import annotations

import os
import runpy
import signal
import time
from collections.abc import Sequence

import torch

from auscult.errors import AuscultError, run
from auscult.settings.project import Project
from auscult.training import distributed, launch
from auscult.training.networks import Networks, fit_some


def train_as_stage(arm: str) -> None:
    """What `stages/train.py <arm> 1` does."""
    project = Project.open()
    run(lambda: launch.run(_train, (project, arm, 1), project.arm(arm), project.section("train")))


def _train(project: Project, arm: str, seed: int) -> None:
    runpy.run_path("stages/train.py")["train"](project, arm, seed)


def fails(how: str) -> None:
    """Process 1 fails as `how` says; process 0 waits for it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as in a spawned process; a forked one has the launcher's
    if distributed.rank() == 1:
        if how == "user":
            raise AuscultError("the loss is nan", "network `all`", "lower `lr`")
        if how == "bug":
            raise ZeroDivisionError("at last")
        os.kill(os.getpid(), signal.SIGKILL)
    torch.distributed.barrier()
    raise AuscultError("this process", fix="should not have come here")


def killed_in_the_second(networks: Networks, names: Sequence[str]) -> None:
    """For `Networks.side_by_side`: the process that has not the first network is killed when the other has finished."""
    first = next(iter(networks.sets))
    if first in names:
        fit_some(networks, names)
    else:
        while first in networks.unfinished():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)


def refuse_machine(machine: str) -> None:
    raise AuscultError("the first clip is silent", machine, "record it again")
