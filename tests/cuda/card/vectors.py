"""Whether a model of a real size gives the same vectors whoever computes beside it: with one worker on the card, with
several, and on the CPU in f32.

    vectors.py DIST --work DIR [--dry]

Exits 1 where a cosine is less than that of rounding.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch

import shapes

SHAPE = "bge-small"
LEAST = 0.9995  # of F16
FEW = 128  # texts for the CPU


def vectors(dist: Path, model: Path, texts: Path, *options: object) -> torch.Tensor:
    """A row per text, of the last of three passes."""
    file = texts.with_suffix(".vectors")
    command = [dist / "encode", "--model", model, "--texts", texts, "--max-tokens", shapes.LONGEST]
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
    parser.add_argument("--dry", action="store_true", help="on the CPU alone, everything tiny")
    arguments = parser.parse_args()
    shape = shapes.SHAPES[SHAPE].tiny() if arguments.dry else shapes.SHAPES[SHAPE]
    model, texts = arguments.work / "vectors-model", arguments.work / "vectors.jsonl"
    shapes.lay_out(shape, model)
    shapes.Writer(3).write("uniform", 256 if arguments.dry else 8192, texts)
    few = arguments.work / "vectors-few.jsonl"
    few.write_text("".join(texts.read_text().splitlines(True)[:FEW]))
    device = [] if arguments.dry else ["--device", "cuda", "--dtype", "f16"]

    alone = vectors(arguments.dist, model, texts, *device, "--workers", 1)
    of_cpu = vectors(arguments.dist, model, few)
    compared = {"one worker and the CPU in f32": torch.cosine_similarity(alone[:FEW], of_cpu)}
    for workers in (2, 4):
        side_by_side = vectors(arguments.dist, model, texts, *device, "--workers", workers)
        compared[f"one worker and {workers}"] = torch.cosine_similarity(alone, side_by_side)
    failed = False
    for name, cosines in compared.items():
        # Of a vector that is no number, no comparison is true.
        wrong = (~(cosines >= LEAST)).sum().item()
        failed |= wrong > 0
        print(f"{name}: lowest cosine {cosines.nan_to_num(-1.0).min():.6f}, {wrong} of {len(cosines)} wrong", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
