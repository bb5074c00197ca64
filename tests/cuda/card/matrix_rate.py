"""The rate of the card's matrix products alone, by PyTorch."""

import functools
import time
from statistics import median

import torch

from shapes import Shape


@functools.cache
def product_seconds(rows: int, inputs: int, outputs: int, device: str) -> float:
    """Seconds of one product, the median of three series."""
    dtype = torch.float16 if device == "cuda" else torch.float32
    x = torch.randn(rows, inputs, device=device, dtype=dtype)
    weight = torch.randn(outputs, inputs, device=device, dtype=dtype)

    def seconds_of(number: int) -> float:
        started = time.perf_counter()
        for _ in range(number):
            torch.matmul(x, weight.t())
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    seconds_of(5)
    number = 20 if device == "cuda" else 2
    return median(seconds_of(number) / number for _ in range(3))


def matrix_rate(shape: Shape, device: str) -> float:
    """Operations per second of torch.matmul at the shapes of a model, with the best of several numbers of rows."""
    row_counts = (8192, 16_384, 32_768) if device == "cuda" else (512, 1024)
    rates = []
    for rows in row_counts:
        seconds = sum(product_seconds(rows, *sizes, device) * count for *sizes, count in shape.products())
        rates.append(rows * shape.flop_per_token() / seconds)
    return max(rates)
