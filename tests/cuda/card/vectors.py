"""Checks that a model of a real size gives the same vectors with one worker on the card, with several workers, and on
the CPU in f32.

    vectors.py DIST --work DIR [--dry]

Exits 1 if a cosine is lower than rounding explains.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch

from model_folder import write_model
from shapes import LONGEST, SHAPES
from texts import TextWriter

SHAPE = "bge-small"
LOWEST_COSINE = 0.9995  # by rounding to f16
CPU_TEXTS = 128


def vectors(dist: Path, model: Path, texts: Path, *options: object) -> torch.Tensor:
    """The vectors `[texts, width]` of the last of three passes."""
    file = texts.with_suffix(".vectors")
    command = [dist / "encode", "--model", model, "--texts", texts, "--max-tokens", LONGEST]
    command += ["--repeat", 2, "--vectors", file, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"encode {' '.join(map(str, options))}: {done.stderr.strip()[-300:]}")
    rows = sum(1 for _ in texts.open())
    return torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.float32).view(rows, -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--dry", action="store_true", help="on the CPU alone, everything small")
    arguments = parser.parse_args()
    shape = SHAPES[SHAPE].tiny() if arguments.dry else SHAPES[SHAPE]
    model, texts = arguments.work / "vectors-model", arguments.work / "vectors.jsonl"
    write_model(shape, model)
    TextWriter(3).write("uniform", 256 if arguments.dry else 8192, texts)
    few = arguments.work / "vectors-few.jsonl"
    few.write_text("".join(texts.read_text().splitlines(True)[:CPU_TEXTS]))
    device = [] if arguments.dry else ["--device", "cuda", "--dtype", "f16"]

    alone = vectors(arguments.dist, model, texts, *device, "--workers", 1)
    of_cpu = vectors(arguments.dist, model, few)
    compared = {"one worker and the CPU in f32": torch.cosine_similarity(alone[:CPU_TEXTS], of_cpu)}
    for workers in (2, 4):
        side_by_side = vectors(arguments.dist, model, texts, *device, "--workers", workers)
        compared[f"one worker and {workers}"] = torch.cosine_similarity(alone, side_by_side)
    failed = False
    for name, cosines in compared.items():
        # A comparison with NaN is false, so NaN counts as wrong.
        wrong = (~(cosines >= LOWEST_COSINE)).sum().item()
        failed |= wrong > 0
        lowest = cosines.nan_to_num(-1.0).min()
        print(f"{name}: lowest cosine {lowest:.6f}, {wrong} of {len(cosines)} wrong", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
