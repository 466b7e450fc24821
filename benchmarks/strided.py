"""Strided convolutions of one channel, as PyTorch's convolution and as frames times a matrix.

PYTHONPATH=src python benchmarks/strided.py --help
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import conv1d, conv2d

from auscult.models.layers import framed_product
from auscult.settings.training import Train
from auscult.training.device import pick_device, prepare
from common import RATE, SECONDS, THREADS, Row, command, parser_of, record, row
from counting import settle

LAYERS = {"Tgram's first": (128, 1024, 512, 512), "TFgram's first": (64, 11, 5, 5)}
"""Filters, taps, stride and padding."""


def forms_of(layer: str, wave: torch.Tensor, weight: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """The layer as the models have it on a CPU and on a GPU, with what makes its output ready for the next one."""
    _, _, stride, padding = LAYERS[layer]
    if layer == "Tgram's first":
        return {
            "convolution": lambda: conv1d(wave, weight, None, stride, padding),
            "product": lambda: framed_product(wave, weight, stride, padding).mT.contiguous(),
        }
    image, flat = wave.unsqueeze(2), weight.unsqueeze(2)
    return {
        "convolution": lambda: conv2d(
            image.clone(memory_format=torch.channels_last), flat, None, (1, stride), (0, padding)
        ),
        "product": lambda: framed_product(wave, weight, stride, padding),
    }


def measure(batch: int, seconds: float, turns: int, device: torch.device) -> list[Row]:
    def spent(form: Callable[[], torch.Tensor], weight: torch.Tensor, down: torch.Tensor) -> float:
        settle()
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        start = clock()
        torch.autograd.grad(form(), weight, down)
        settle()
        return 1000 * (clock() - start)

    found = []
    for layer, (filters, taps, _, _) in LAYERS.items():
        for dtype in (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,):
            wave = torch.randn(batch, 1, round(RATE * seconds), device=device, dtype=dtype)
            weight = torch.randn(filters, 1, taps, device=device, dtype=dtype, requires_grad=True)
            forms = forms_of(layer, wave, weight)
            times: dict[str, list[float]] = {name: [] for name in forms}
            downs = {name: torch.randn_like(form()) for name, form in forms.items()}
            for _ in range(1 + turns):  # in turns; the first warms up
                for name, form in forms.items():
                    times[name].append(spent(form, weight, downs[name]))
            each = {name: float(np.median(values[1:])) for name, values in times.items()}
            ratio = float(np.median(np.divide(times["convolution"][1:], times["product"][1:])))
            where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, threads {torch.get_num_threads()}"
            kind = str(dtype).removeprefix("torch.")
            variant = f"{layer}, {batch} x {seconds:g} s, {kind}, {where}"
            unit = "ms forward and backward" + ("" if device.type == "cuda" else ", processor time")
            found.append(row("strided convolution", f"{variant}: convolution", each["convolution"], unit))
            found.append(row("strided convolution", f"{variant}: frames times a matrix", each["product"], unit,
                             each["convolution"], ratio))  # fmt: skip
    return found


def strided() -> None:
    """Strided convolutions of one channel, as PyTorch's convolution and as frames times a matrix, turn by turn in one run.

        PYTHONPATH=src python benchmarks/strided.py

    Forward pass and weight gradient (the waveform has none) of the first layers of Tgram and TFgram. The ratio is the median
    of turns, convolution over product: above 1 the product is faster. On a GPU in bfloat16, too. Rows go to
    metrics/benchmarks.csv.
    """
    arguments = parser_of(strided, batch=16, seconds=SECONDS, turns=7, threads=THREADS, device="auto").parse_args()
    device = pick_device(arguments.device)
    prepare(device, Train(threads=arguments.threads))
    record(measure(arguments.batch, arguments.seconds, arguments.turns, device))


if __name__ == "__main__":
    command({"strided": strided})
