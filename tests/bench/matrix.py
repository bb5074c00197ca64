"""The rate of the machine: the float32 matrix products of a model's weights alone.

    matrix.py dense|sparse|rerank --model DIR

Every product of the model is computed for `BLOCK` tokens at a time, into existing buffers. The tokens per second are
those that the model would reach if everything else took no time. The best of two libraries (torch and NumPy, each with
its own BLAS) and of two layouts of the weights counts.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import measure
from flop import products

BLOCK = 2048
BLOCKS = 8


class Products:
    settings = [
        {"library": library, "weights": layout} for library in ("torch", "numpy") for layout in ("in×out", "out×in")
    ]
    default = None

    def __init__(self, shapes: list[tuple[int, int, int]], threads: int):
        torch.set_num_threads(threads)
        self.threads = threads
        self.steps = []
        for inputs, outputs, count in shapes:
            x = torch.rand(BLOCK, inputs)
            # As many weights as in the model, so that they are read from memory as there.
            weights = [torch.rand(inputs, outputs) for _ in range(count)]
            self.steps.append((x, weights, [w.T.contiguous().T for w in weights], torch.empty(BLOCK, outputs)))

    def run(self, blocks, setting):
        numpy = setting["library"] == "numpy"
        with torch.inference_mode(), threadpool_limits(self.threads):
            for _ in blocks:
                for x, plain, transposed, y in self.steps:
                    for weight in plain if setting["weights"] == "in×out" else transposed:
                        if numpy:
                            np.matmul(x.numpy(), weight.numpy(), out=y.numpy())
                        else:
                            torch.mm(x, weight, out=y)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["dense", "sparse", "rerank"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    measure.add_arguments(parser)
    arguments = parser.parse_args()

    config = json.loads((arguments.model / "config.json").read_text())
    about = {
        "peer": "matrix products alone",
        "version": f"torch {version('torch')}, numpy {version('numpy')}",
        "task": arguments.task,
        "model": arguments.model.name,
        "threads": arguments.threads,
    }
    shapes = products(arguments.task, config)
    blocks = list(range(BLOCKS))
    measure.measure(arguments, lambda: Products(shapes, arguments.threads), blocks, BLOCK * BLOCKS, about)


if __name__ == "__main__":
    main()
