"""Runs that have little of the card's memory: beside a program that holds nearly all, and under a ceiling.

    memory.py DIST --work DIR [--budget SECONDS] [--dry]

Exits 1 where a run does not succeed, for there is room for it in both, or where more memory is in use than the ceiling
allows.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import shapes
from card import Watch, ask
from speed import manifest

GIB = 1 << 30
FREE = 6  # GiB beside the ballast
CEILING = 4  # GiB
# More than a window has: every window is one batch, which no memory here holds.
BATCH_TOKENS = 262_144

BALLAST = """
import sys, torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(max(0, free - int(sys.argv[1])), dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print(torch.cuda.mem_get_info()[0], flush=True)
sys.stdin.read()
"""


@contextmanager
def ballast(free: int):
    """A program that leaves so many bytes of the card free."""
    command = [sys.executable, "-c", BALLAST, str(free)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline()
        if not said:
            raise RuntimeError("the ballast could not be held")
        yield int(said)
    finally:
        process.stdin.close()
        process.wait()


def events(out: Path) -> str:
    """What the summary says was done about pressure on memory."""
    found = []
    for file in out.rglob("processing_summary.json"):
        text = file.read_text()
        kinds = [event["kind"] for event in mitigations(json.loads(text))]
        counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
        peaks = [int(peak) for peak in re.findall(r'"(?:peak_bytes|bytes_peak)": *(\d+)', text)]
        found.append(f"mitigations {counts or 'none'}, peak of the summary {max(peaks, default=0) / GIB:.2f} GiB")
    return "; ".join(found) or "no summary"


def mitigations(value) -> list[dict]:
    if isinstance(value, dict):
        own = value.get("mitigation_events") or []
        return own + [event for key, part in value.items() if key != "mitigation_events" for event in mitigations(part)]
    return [event for part in value for event in mitigations(part)] if isinstance(value, list) else []


def run(dist: Path, work: Path, name: str, device: str, seconds: float, **environment: str) -> tuple[bool | None, str]:
    """Whether a run did as it should, none where it was cut, and what there is to say about it."""
    out = work / f"out-{name}"
    arguments = manifest(work / f"{name}.yaml", work / "long", work / "bert-base", out, device)
    command = [str(dist / "embedrun"), *arguments]
    variables = os.environ | {"EMBEDRUN_BATCH_TOKENS": str(BATCH_TOKENS)} | environment
    try:
        if seconds <= 0:
            return None, "no time left"
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=variables)
    except subprocess.TimeoutExpired:
        return None, f"cut after {seconds:.0f} s"
    if done.returncode == 0:
        written = any(out.rglob("*.parquet"))
        return written, f"succeeded, {events(out)}" if written else "wrote no Parquet"
    return False, f"exit code {done.returncode}: {' '.join(done.stderr.split())[-400:]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--budget", type=float, default=60)
    parser.add_argument("--dry", action="store_true", help="on the CPU, everything tiny, no ballast")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.budget
    dist, work = arguments.dist, arguments.work
    device = "cpu" if arguments.dry else "cuda"

    shape = shapes.SHAPES["bert-base"]
    shapes.lay_out(shape.tiny() if arguments.dry else shape, work / "bert-base")
    (work / "long").mkdir(exist_ok=True)
    shapes.Writer(2).write("full", 32 if arguments.dry else 2048, work / "long/texts.jsonl")

    failed = False

    def report(name: str, right: bool | None, said: str) -> None:
        nonlocal failed
        failed |= right is False
        verdict = {True: "ok", False: "FAILED", None: "not judged"}[right]
        print(f"{verdict}: {name}: {said}", flush=True)

    if arguments.dry:
        report("plain run", *run(dist, work, "ballast", device, end - time.monotonic()))
    else:
        with ballast(FREE * GIB) as free:
            name = f"{free / GIB:.1f} GiB free"
            report(name, *run(dist, work, "ballast", device, (end - time.monotonic()) / 2))

    before = ask("memory.used")
    watch = Watch()
    right, said = run(dist, work, "ceiling", device, end - time.monotonic(), EMBEDRUN_MEMORY_CEILING=f"{CEILING}Gi")
    watch.stop()
    if (peak := watch.peak()) is not None:
        # What others hold is not the run's.
        used = (peak - float(before[0])) / 1024
        right = False if used > CEILING else right
        said = f"the card's memory rose by {used:.2f} GiB; {said}"
    report(f"ceiling of {CEILING} GiB", right, said)
    sys.exit(failed)


if __name__ == "__main__":
    main()
