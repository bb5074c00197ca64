"""How fast the cases are beside the card's own matrix products and beside a peer: a Markdown table.

    speed.py DIST --work DIR [--budget SECONDS] [--dry]

A case that would go over the budget is cut and says so. Missed goals are marked, they are no failure.
"""

import argparse
import functools
import json
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

import shapes
from card import Watch

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A shape, texts of a kind, and the goals: a share of the matrix rate, a multiple of the peer's rate."""

    shape: str
    kind: str
    texts: int
    share: float | None = None
    ratio: float | None = None
    whole: bool = False  # `embedrun run`, JSON Lines to Parquet, in place of `encode`
    part: int = 1  # the peer computes every so many-th text: its rate does not depend on how many there are


# In the order of what they say, should the time not suffice.
CASES = {
    "BERT-large": Case("bert-large", "uniform", 4096, share=0.60, ratio=2, part=4),
    "MiniLM-L6, end to end": Case("minilm-l6", "short", 400_000, ratio=6, whole=True, part=16),
    "bge-small": Case("bge-small", "uniform", 16_384, share=0.35, ratio=4, part=8),
    "cross-encoder": Case("cross-minilm-l12", "pairs", 8_000, ratio=3, part=4),
    "SPLADE": Case("splade-base", "uniform", 4096, ratio=3, part=8),
    "Qwen3-0.6B": Case("qwen3-0.6b", "bytes", 2048, share=0.50, part=8),
}


class Failed(Exception):
    """A program failed; says which and what it wrote last."""


def output(command: list, seconds: float, watch: Watch | None = None) -> str:
    if seconds <= 0:
        raise Failed("no time left")
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failed(f"{Path(command[0]).name}: cut after {seconds:.0f} s") from None
    finally:
        if watch:
            watch.stop()
    if done.returncode != 0:
        last = " ".join(done.stderr.split())[-300:]
        raise Failed(f"{Path(command[0]).name} ended with {done.returncode}: {last}")
    return done.stdout


@functools.cache
def product_seconds(rows: int, inputs: int, outputs: int, device: str) -> float:
    dtype = torch.float16 if device == "cuda" else torch.float32
    x = torch.randn(rows, inputs, device=device, dtype=dtype)
    weight = torch.randn(outputs, inputs, device=device, dtype=dtype)

    def times(number: int) -> float:
        started = time.perf_counter()
        for _ in range(number):
            torch.matmul(x, weight.t())
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    times(5)
    number = 20 if device == "cuda" else 2
    return median(times(number) / number for _ in range(3))


def matrix_rate(shape: shapes.Shape, device: str) -> float:
    """Operations in a second of torch.matmul at the shapes of a model, with the best of several numbers of rows."""
    counts = (8192, 16_384, 32_768) if device == "cuda" else (512, 1024)
    rates = []
    for rows in counts:
        seconds = sum(product_seconds(rows, *sizes, device) * times for *sizes, times in shape.products())
        rates.append(rows * shape.flop_per_token() / seconds)
    return max(rates)


MANIFEST = """\
apiVersion: embedrun.dev/v1alpha1
kind: EmbeddingRun
metadata: {{name: gpu-check}}
spec:
  collections:
    - name: texts
      source:
        hostPath: {{path: {source}}}
  models:
    dense:
      - {{name: model, source: "file://{model}", dtype: {dtype}}}
  gpu: {{count: {gpus}}}
  output:
    hostPath: {{path: {out}}}
"""


def manifest(file: Path, source: Path, model: Path, out: Path, device: str) -> list[str]:
    """Writes a manifest; the arguments with which `embedrun` runs it."""
    on_card = device == "cuda"
    places = {"source": source, "model": model, "out": out}
    file.write_text(MANIFEST.format(**places, dtype="F16" if on_card else "F32", gpus=int(on_card)))
    return ["--quiet", "run", "-f", str(file), "--device", device]


@dataclass
class Check:
    dist: Path
    work: Path
    device: str
    dry: bool
    end: float

    def left(self) -> float:
        return self.end - time.monotonic()

    def ours(self, case: Case, model: Path, texts: Path) -> tuple[list[float], int, float | None]:
        """The seconds of every round, the tokens where they are known, and how busy the card was."""
        task = shapes.SHAPES[case.shape].task
        if case.whole:
            return self.whole(model, texts)
        command = [self.dist / "encode", "--task", task, "--model", model, "--texts", texts]
        command += ["--max-tokens", shapes.LONGEST, "--repeat", 3]
        if not self.dry:
            command += ["--device", "cuda", "--dtype", "f16"]
        watch = Watch()
        line = json.loads(output(command, min(60, self.left()), watch))
        ended = time.monotonic()
        return line["seconds"], line["tokens"], watch.busy(ended - sum(line["seconds"]), ended)

    def whole(self, model: Path, texts: Path) -> tuple[list[float], int, float | None]:
        source = self.work / "source"
        source.mkdir(exist_ok=True)
        (source / "texts.jsonl").unlink(missing_ok=True)
        os.link(texts, source / "texts.jsonl")
        taken, watch = [], Watch()
        try:
            # The first is a warm-up; a new output each time, since what is there is not computed again.
            for number in range(4):
                out = self.work / f"out-{number}"
                arguments = manifest(self.work / "run.yaml", source, model, out, self.device)
                started = time.monotonic()
                output([self.dist / "embedrun", *arguments], min(60, self.left()))
                taken.append(time.monotonic() - started)
                if not list(out.rglob("*.parquet")):
                    raise Failed("embedrun run wrote no Parquet")
        finally:
            watch.stop()
        ended = time.monotonic()
        return taken[1:], 0, watch.busy(ended - sum(taken[1:]), ended)

    def inputs(self, case: Case) -> tuple[shapes.Shape, int, Path, Path]:
        """The shape, the number of texts, the model's folder and the file of texts."""
        shape, number = shapes.SHAPES[case.shape], case.texts
        if self.dry:
            shape, number = shape.tiny(), {"pairs": 100}.get(case.kind, 24)
        return shape, number, self.work / case.shape, self.work / f"{case.shape}.jsonl"

    def prepare(self, case: Case) -> None:
        """Makes what a case takes, unless it is there."""
        shape, number, model, texts = self.inputs(case)
        if not model.exists():
            shapes.lay_out(shape, model)
        if not texts.exists():
            shapes.Writer(1).write(case.kind, number, texts)

    def row(self, name: str, case: Case) -> list[str]:
        """The cells of a case. What fails or is cut leaves its cells empty, and is said in the last."""
        self.prepare(case)
        (shape, number, model, texts), notes = self.inputs(case), []
        part = 1 if self.dry else case.part
        ours = peer = rate = busy = None
        cells = [name, "", "", "", "", "", ""]
        try:
            seconds, tokens, busy = self.ours(case, model, texts)
            ours = number / median(seconds)
            cells[1] = f"{ours:.0f} texts/s"
            if tokens:
                cells[1] += f", {tokens / median(seconds) / 1e3:.0f} k tokens/s"
            cells[1] += " (" + ", ".join(f"{second:.2f}" for second in seconds) + " s)"
            cells[4] = f"{busy:.0f} %" if busy is not None else "–"
            if case.share:
                rate = matrix_rate(shape, self.device)
                share = tokens / median(seconds) * shape.flop_per_token() / rate
                goal = "met" if share >= case.share else "**missed**"
                cells[2] = f"{share:.0%} of {rate / 1e12:.3g} Tflop/s (goal {case.share:.0%}: {goal})"
        except Failed as failure:
            notes.append(str(failure))
        try:
            budget = min(45, self.left())
            command = [sys.executable, HERE / "peer.py", shape.task, "--model", model, "--texts", texts]
            command += ["--device", self.device, "--part", part, "--budget", budget * 0.7]
            # The first line may stand below what a library prints.
            peer = json.loads(output(command, budget).splitlines()[-1])
            cells[5] = f"{peer['peer']}, batch {peer['batch']}: {peer['texts_per_second']:.0f} texts/s"
        except Failed as failure:
            notes.append(str(failure))
        if ours and peer and case.ratio:
            ratio = ours / peer["texts_per_second"]
            cells[3] = f"{ratio:.2f} × (goal {case.ratio} ×: {'met' if ratio >= case.ratio else '**missed**'})"
        elif ours and peer:
            cells[3] = f"{ours / peer['texts_per_second']:.2f} ×"
        cells[6] = "; ".join(notes).replace("|", "/")
        return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path)
    parser.add_argument("cases", nargs="*", help="names, or all")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--budget", type=float, default=300)
    parser.add_argument("--dry", action="store_true", help="on the CPU, everything tiny")
    parser.add_argument("--prepare", action="store_true", help="only make the models and texts, all at once")
    arguments = parser.parse_args()
    device = "cpu" if arguments.dry else "cuda"
    check = Check(arguments.dist, arguments.work, device, arguments.dry, time.monotonic() + arguments.budget)
    cases = {name: case for name, case in CASES.items() if not arguments.cases or name in arguments.cases}
    if arguments.prepare:
        with ProcessPoolExecutor(len(cases), multiprocessing.get_context("spawn")) as pool:
            list(pool.map(check.prepare, cases.values()))
        return
    heads = ["case", "rate, median (rounds)", "share of matrix rate", "to the peer", "busy", "peer", "notes"]
    print("| " + " | ".join(heads) + " |")
    print("|" + " --- |" * len(heads), flush=True)
    for name, case in cases.items():
        if check.left() < 15:
            cells = [name, *[""] * 5, "not run, no time left"]
        else:
            try:
                cells = check.row(name, case)
            except Exception as error:  # the other cases still have something to say
                cells = [name, *[""] * 5, f"{type(error).__name__}: {error}"[:300].replace("|", "/").replace("\n", " ")]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
