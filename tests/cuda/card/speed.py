"""Prints a Markdown table of the speed of each case beside the card's own matrix products and beside a peer.

    speed.py DIST --work DIR [--budget SECONDS] [--dry]

A case that would exceed the budget is cut, and the table says so. Missed goals are marked, and are not a failure.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matrix_rate import matrix_rate
from model_folder import write_model
from nvidia_smi import Monitor
from programs import Failed, output, write_manifest
from shapes import LONGEST, SHAPES, Shape
from texts import TextWriter

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A shape, texts of a kind, and the goals: a share of the matrix rate, a multiple of the peer's rate."""

    shape: str
    kind: str
    texts: int
    share: float | None = None
    ratio: float | None = None
    end_to_end: bool = False  # `embedrun run`, JSON Lines to Parquet, instead of `encode`
    part: int = 1  # the peer computes only every part-th text: its rate does not depend on their number


# The most informative first, in case the time does not suffice.
CASES = {
    "BERT-large": Case("bert-large", "uniform", 4096, share=0.60, ratio=2, part=4),
    "MiniLM-L6, end to end": Case("minilm-l6", "short", 400_000, ratio=6, end_to_end=True, part=16),
    "bge-small": Case("bge-small", "uniform", 16_384, share=0.35, ratio=4, part=8),
    "cross-encoder": Case("cross-minilm-l12", "pairs", 8_000, ratio=3, part=4),
    "SPLADE": Case("splade-base", "uniform", 4096, ratio=3, part=8),
    "Qwen3-0.6B": Case("qwen3-0.6b", "bytes", 2048, share=0.50, part=8),
}


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
        """The seconds of every round, the tokens (0 if unknown), and the utilization of the card in %."""
        task = SHAPES[case.shape].task
        if case.end_to_end:
            return self.end_to_end(model, texts)
        command = [self.dist / "encode", "--task", task, "--model", model, "--texts", texts]
        command += ["--max-tokens", LONGEST, "--repeat", 3]
        if not self.dry:
            command += ["--device", "cuda", "--dtype", "f16"]
        monitor = Monitor()
        line = json.loads(output(command, min(60, self.left()), monitor))
        ended = time.monotonic()
        return line["seconds"], line["tokens"], monitor.busy(ended - sum(line["seconds"]), ended)

    def end_to_end(self, model: Path, texts: Path) -> tuple[list[float], int, float | None]:
        source = self.work / "source"
        source.mkdir(exist_ok=True)
        (source / "texts.jsonl").unlink(missing_ok=True)
        os.link(texts, source / "texts.jsonl")
        taken, monitor = [], Monitor()
        try:
            # The first is a warm-up. Each has a new output folder, since finished rows are not computed again.
            for number in range(4):
                out = self.work / f"out-{number}"
                arguments = write_manifest(self.work / "run.yaml", source, model, out, self.device)
                started = time.monotonic()
                output([self.dist / "embedrun", *arguments], min(60, self.left()))
                taken.append(time.monotonic() - started)
                if not list(out.rglob("*.parquet")):
                    raise Failed("embedrun run wrote no Parquet")
        finally:
            monitor.stop()
        ended = time.monotonic()
        return taken[1:], 0, monitor.busy(ended - sum(taken[1:]), ended)

    def inputs(self, case: Case) -> tuple[Shape, int, Path, Path]:
        """The shape, the number of texts, the model's folder and the file of texts."""
        shape, number = SHAPES[case.shape], case.texts
        if self.dry:
            shape, number = shape.tiny(), {"pairs": 100}.get(case.kind, 24)
        return shape, number, self.work / case.shape, self.work / f"{case.shape}.jsonl"

    def prepare(self, case: Case) -> None:
        """Makes the model and the texts of a case, unless they exist."""
        shape, number, model, texts = self.inputs(case)
        if not model.exists():
            write_model(shape, model)
        if not texts.exists():
            TextWriter(1).write(case.kind, number, texts)

    def row(self, name: str, case: Case) -> list[str]:
        """The cells of a case. A failure or a cut leaves its cells empty and is noted in the last."""
        self.prepare(case)
        (shape, number, model, texts), notes = self.inputs(case), []
        part = 1 if self.dry else case.part
        ours = peer = None
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
            # Libraries may print lines before it.
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
    parser.add_argument("--prepare", action="store_true", help="only make the models and texts, in parallel")
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
            except Exception as error:  # the other cases still run
                cells = [name, *[""] * 5, f"{type(error).__name__}: {error}"[:300].replace("|", "/").replace("\n", " ")]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
