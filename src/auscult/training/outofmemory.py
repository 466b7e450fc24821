"""What happens when a training asks for more memory than the device has."""

from __future__ import annotations

import gc
import sys

import torch

from auscult.errors import AuscultError
from auscult.settings.training import MethodSettings, Train
from auscult.training import distributed


def next_parts(parts: int, name: str, settings: MethodSettings, train: Train) -> int:
    """In how many parts a batch is processed from now on, after it did not fit the memory in `parts` of them.

    The gradient of a mean over clips stays what it was. What looks at several clips at once does not: batch norms,
    contrastive losses and mixing see a part alone, which the warning and a column of the history say.

    Raises:
        AuscultError: nobody asked for parts, they would be of single clips, or several processes train; names the knobs.
    """
    where = f"network `{name}`"
    several = distributed.size() > 1  # the others, whose batches did fit, would wait for this process for ever
    if train.on_out_of_memory == "stop" or several:
        halve = f"`on_out_of_memory: halve`{' with `train.processes: 1`' if several else ''}"
        raise AuscultError("the device is out of memory", where, f"{_knobs(settings, train)}, or {halve}")
    if settings.batch_size < 4 * parts:
        raise AuscultError(
            f"the device is out of memory, with batches in {parts} part(s)", where, _knobs(settings, train)
        )
    gc.collect()  # frames of the failed step hold its tensors in cycles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    print(
        f"{name}: out of memory; batches of {settings.batch_size} are now processed in {2 * parts} parts with accumulation:"
        " batch norms, mixing and losses within a batch see one part, so results differ from those of whole batches",
        file=sys.stderr,
    )
    return 2 * parts


def _knobs(settings: MethodSettings, train: Train) -> str:
    encoder = getattr(settings, "encoder", None)
    checkpointing = getattr(encoder, "activation_checkpointing", None) is False
    knobs = [
        "a smaller `batch_size`",
        *(["`encoder.activation_checkpointing: true`"] if checkpointing else []),
        *(["`train.precision: bfloat16`"] if train.precision != "bfloat16" else []),
        *(["a smaller `train.resident_fraction`"] if train.resident_fraction else []),
    ]
    return f"set {', '.join(knobs)}"
