"""Dual-level contrastive loss (Han et al., section III-D): unlabelled clips go to their nearest code, away from labelled ones.

Nothing in the loss keeps the codes apart or in use, so unused ones are seeded anew and their use is reported. Everything
here runs in float32 whatever surrounds it, and nothing waits for the device.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional

from auscult.errors import AuscultError
from auscult.settings.sections import DlclSettings

KMEANS_CLIPS = 2048
"""Embeddings, at most, that the first codes are clustered from."""
USAGE_STEPS = 1000
"""Window of the reported use where codes are never seeded anew."""


def dlcl(
    x: Tensor, codes: Tensor, bank: Tensor, temperature: float, valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """-log(exp(x.v_c / tau) / (exp(x.v_c / tau) + sum_j exp(x.m_j / tau))), Eq. (9), and the code c of each clip, Eq. (8).

    x, v and m are normalised to length 1 here: Eq. (9) prints raw products, which a temperature of 0.1 has no meaning for.
    c is the code of *largest* cosine, "the closest vector" of the text; Eq. (8) prints arg min.

    Args:
        x: embeddings [B, E].
        codes: v, [n_q, E].
        bank: m, [n_b, E].
        temperature: tau_2.
        valid: bool [n_b], which entries of the bank count; None = all.

    Returns:
        Loss of each clip [B], and its code int64 [B]. Gradients reach x, the chosen codes, and `bank` if it has one.

    >>> dlcl(torch.tensor([[2.0, 0.0]]), codes=torch.eye(2), bank=torch.tensor([[1.0, 0.0]]), temperature=0.1)  # ln 2
    (tensor([0.6931]), tensor([0]))
    """
    x, codes, bank = (functional.normalize(part) for part in (x, codes, bank))
    nearest, code = (x @ codes.T).max(1)
    others = x @ bank.T
    if valid is not None:
        others = others.masked_fill(~valid, -torch.inf)
    logits = torch.cat([nearest[:, None], others], 1) / temperature
    return -logits.log_softmax(1)[:, 0], code


class DualLevelContrast(nn.Module):
    """The loss with its codes (quantiser) and its bank of labelled embeddings (first in, first out).

    Args:
        settings: n_q = `codes`, n_b = `bank`, tau_2 = `temperature`, `start`, `reseed_steps`. `weight` is the caller's:
            Eq. (10) is not formed here.
        width: E, size of an embedding.

    All that changes is a parameter or a buffer: a run continued from the state dict ends as one that never stopped.
    A step, in the counters, is a training batch with an unlabelled clip in it.

    Raises:
        AuscultError: a bank that can never hold `start` entries.
    """

    bank: Tensor
    filled: Tensor
    pointer: Tensor
    steps: Tensor
    used: Tensor
    seeded: Tensor

    def __init__(self, settings: DlclSettings, width: int) -> None:
        super().__init__()
        if settings.start > settings.bank:
            what = f"the bank holds {settings.bank} embeddings and the loss would count from {settings.start} on"
            raise AuscultError(what, "dlcl.start", "let it be no larger than dlcl.bank")
        self.temperature, self.start, self.reseed_steps = settings.temperature, settings.start, settings.reseed_steps
        self.codes = nn.Parameter(functional.normalize(torch.randn(settings.codes, width)))
        counters = {
            "filled": (),  # entries of the bank that were written
            "pointer": (),  # where the next one goes
            "steps": (),
            "used": (settings.codes,),  # step a code was last nearest in
            "seeded": (settings.codes,),  # step it last took an embedding's place in
        }
        self.register_buffer("bank", torch.zeros(settings.bank, width))
        for name, shape in counters.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.int64))

    def forward(self, x: Tensor, labelled: Tensor) -> dict[str, Tensor]:
        """Loss of a batch; in training the bank, the counters and unused codes are brought up to date afterwards.

        The bank is read as earlier batches left it ("subsequent contrastive learning"): this batch's labelled clips are
        nobody's negatives yet.

        Args:
            x: embeddings [B, E], of any length.
            labelled: bool [B].

        Returns:
            "dlcl": mean over the unlabelled clips; 0 without any, and while the bank holds fewer than `start` entries.
            "code_usage": share of codes that were nearest to an unlabelled clip in the last `reseed_steps` steps
            (1000 where that is 0); a code that was only seeded anew does not count. Both scalar.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.bank.dtype)
            valid = torch.arange(len(self.bank), device=x.device) < self.filled
            # A copy of the codes, for they may be written to before the backward pass.
            nll, code = dlcl(x, self.codes.clone(), self.bank, self.temperature, valid)
            counts = ~labelled & (self.filled >= self.start)
            loss = torch.where(counts, nll, 0).sum() / counts.sum().clamp(min=1)
            if self.training:
                with torch.no_grad():
                    self._tally(code, ~labelled)
                    if self.reseed_steps:
                        self._reseed(x, ~labelled)
                    self.remember(x, labelled)
            window = self.reseed_steps or USAGE_STEPS
            usage = (self.used > (self.steps - window).clamp(min=0)).float().mean()
        return {"dlcl": loss, "code_usage": usage}

    @torch.no_grad()
    def remember(self, x: Tensor, labelled: Tensor) -> None:
        """Push the labelled ones of the embeddings [B, E] into the bank, in order; the oldest leave it.

        Written as what each slot reads: a scatter of unknown length would wait for the device.
        """
        size = len(self.bank)
        count = labelled.sum()
        order = (~labelled).int().argsort(stable=True)  # the labelled clips first
        age = (torch.arange(size, device=x.device) - self.pointer) % size  # of the slots, in the order of writing
        rank = age + (count - 1 - age).div(size, rounding_mode="floor") * size  # last clip of the batch that goes there
        clip = order[rank.clamp(0, len(x) - 1)]
        new = functional.normalize(x.to(self.bank.dtype))[clip]
        self.bank.copy_(torch.where((age < count)[:, None], new, self.bank))
        self.pointer.copy_((self.pointer + count) % size)
        self.filled.copy_((self.filled + count).clamp(max=size))

    def _tally(self, code: Tensor, unlabelled: Tensor) -> None:
        """Count the step, and note it at the codes that were nearest to one of the `unlabelled` [B]."""
        self.steps.add_(unlabelled.any())
        every = torch.arange(len(self.codes), device=code.device)
        hit = ((code[:, None] == every) & unlabelled[:, None]).any(0)
        self.used.copy_(torch.where(hit, self.steps, self.used))

    def _reseed(self, x: Tensor, unlabelled: Tensor) -> None:
        """Codes unused for `reseed_steps` steps become unlabelled embeddings of this batch: k-th code, k-th clip.

        No two codes take the same clip: those that find none are left for the next batch.
        """
        idle = self.steps - torch.maximum(self.used, self.seeded) >= self.reseed_steps
        rank = idle.cumsum(0) - 1
        taken = idle & (rank < unlabelled.sum())
        clip = (~unlabelled).int().argsort(stable=True)[rank.clamp(0, len(x) - 1)]
        self.codes.copy_(torch.where(taken[:, None], functional.normalize(x)[clip], self.codes))
        self.seeded.copy_(torch.where(taken, self.steps, self.seeded))

    @torch.no_grad()
    def initialise(self, embeddings: Tensor) -> None:
        """First codes: centres of k-means (seed 0) over unlabelled embeddings [N, E], evenly spaced ones if over 2048.

        Fewer different embeddings than codes become codes themselves; the others keep their random values.
        """
        points = functional.normalize(embeddings.detach().float()).cpu().numpy()
        points = points[np.linspace(0, len(points) - 1, min(len(points), KMEANS_CLIPS)).round().astype(int)]
        different = np.unique(points, axis=0)
        if len(different) > len(self.codes):
            different = KMeans(len(self.codes), n_init=1, random_state=0).fit(points).cluster_centers_
        centres = functional.normalize(torch.from_numpy(different).to(self.codes))
        self.codes[: len(centres)] = centres
