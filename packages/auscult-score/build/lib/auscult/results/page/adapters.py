"""Which groups the group adapters of a network put the clips of each machine type into (Han et al., section III-C, p)."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from auscult.errors import AuscultError
from auscult.evaluation.evaluate import machine_order
from auscult.evaluation.metrics import Floats
from auscult.pages.rendering import marked
from auscult.results.page.context import Context
from auscult.settings.params import arm_settings

if TYPE_CHECKING:
    from auscult.data.store import ClipStore
    from auscult.training.modelfolder import Trained

CLIPS = 4  # test clips per machine type: seconds each, on a CPU
SEED = 0


def adapter_maps(context: Context) -> str:
    """HTML: mean p over a few test clips of each machine type and layer, of every arm with group adapters; "" if none has."""
    parts: list[str] = []
    without: dict[str, list[str]] = {}
    for arm in context.params.arms:
        if arm in (*context.arms, *context.left_out) and _has_adapter(context, arm):
            title = context.titles.get(arm, arm)
            try:
                body = _figures(_weights(context, arm))
            except (AuscultError, OSError) as problem:
                reason = (
                    problem.what if isinstance(problem, AuscultError) else f"{problem.strerror}: {problem.filename}"
                )
                without.setdefault(reason, []).append(title)
            else:
                parts.append(f"<details><summary>{escape(title)}</summary>{body}</details>")
    parts += [
        f'<p class="note">Left out: {escape(", ".join(arms))}. {marked(reason[:1].upper() + reason[1:])}.</p>'
        for reason, arms in without.items()
    ]
    if not parts:
        return ""
    return (
        "<h3>Weights of group adapters</h3><p>Mean share p that each layer (row, the first on top) gives each of its groups "
        f"(column) over {CLIPS} test clips of a machine type; a full cell is a share of 1. Machine types with different rows "
        "are kept apart by the adapter; the same row everywhere is an adapter that does not look at its input.</p>"
        + "".join(parts)
    )


def _has_adapter(context: Context, arm: str) -> bool:
    """Whether the network of an arm has group adapters: its settings put them somewhere."""
    settings = arm_settings(context.params, context.profile, arm)
    adapter = getattr(settings, "group_adapter", None)
    return adapter is not None and adapter.position != "none"


def _weights(context: Context, arm: str) -> dict[str, Floats]:
    from auscult.data.store import ClipStore
    from auscult.training import modelfolder

    trained = modelfolder.load(context.model(arm))
    if not trained.networks:
        raise AuscultError("; ".join(trained.skipped.values()) or "no network was trained")
    return adapter_weights(trained, ClipStore(context.paths.features("test")))


def adapter_weights(trained: Trained, store: ClipStore, clips: int = CLIPS, seed: int = SEED) -> dict[str, Floats]:
    """Machine -> mean p [layers, groups] over `clips` clips of a store, drawn by the seed. Runs the network, on the CPU.

    p is that of Eq. (5), of every chunk that the network embeds; layers are the adapters in the order they are met in.

    Raises:
        AuscultError: clips of another length than the model's.
    """
    import torch

    from auscult.methods.base import Batch
    from auscult.models.group_adapter import GroupAdapter

    shape = next(iter(trained.shapes.values()))
    if store.samples != shape.samples:
        raise AuscultError(f"clips of {store.samples} samples, a model for {shape.samples}")
    network = trained.networks["all"]
    store = store.repeating() if trained.settings.fill == "repeat" else store
    seen: list[np.ndarray] = []

    def listen(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(module, GroupAdapter)
        seen.append(module.weights(inputs[0]).double().mean(0).cpu().numpy())

    hooks = [m.register_forward_pre_hook(listen) for m in network.modules() if isinstance(m, GroupAdapter)]
    rng, found = np.random.default_rng(seed), {}
    try:
        of_machine = store.index.groupby(store.index["machine"].astype(str)).indices
        for machine in sorted(map(str, of_machine), key=machine_order):
            rows = torch.from_numpy(np.sort(rng.permutation(of_machine[machine])[:clips]))
            seen.clear()
            with torch.inference_mode():
                network.features(Batch(wave=store.wave(rows), valid=store.valid(rows)))  # type: ignore[operator]
            found[machine] = np.stack(seen)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _figures(weights: dict[str, Floats]) -> str:
    return f'<div class="cards maps">{"".join(_figure(machine, p) for machine, p in weights.items())}</div>'


def _figure(machine: str, p: Floats) -> str:
    """Layers x groups as shaded squares; shares below a hundredth are left out."""
    layers, groups = p.shape
    cells = "".join(
        f'<rect x="{group * 10}" y="{layer * 10}" width="10" height="10" fill-opacity="{p[layer, group]:.2f}"/>'
        for layer, group in np.argwhere(p >= 0.01)
    )
    strongest = "; ".join(
        f"layer {layer + 1}: group {row.argmax() + 1} ({100 * row.max():.0f} %)" for layer, row in enumerate(p)
    )
    return (
        f'<figure><svg class="map weights" viewBox="0 0 {groups * 10} {layers * 10}" role="img" '
        f'aria-label="{escape(f"{machine}: {strongest}")}">{cells}</svg><figcaption><b>{escape(machine)}</b> '
        f"{layers} layers, {groups} groups</figcaption></figure>"
    )
