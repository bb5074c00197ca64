"""Runs with little memory on the card: beside a program that holds nearly all of it, and under a ceiling.

    memory.py DIST --work DIR [--budget SECONDS] [--dry]

Both have enough memory for the run. Exits 1 if a run fails, or uses more memory than the ceiling allows.
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

from model_folder import write_model
from nvidia_smi import Monitor, query
from programs import write_manifest
from shapes import SHAPES
from texts import TextWriter

GIB = 1 << 30
FREE = 6  # GiB beside the ballast
CEILING = 4  # GiB
# More than a window has: every window is one batch, which does not fit into the memory left here.
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
    """Runs a program that leaves only `free` bytes of the card free; gives the bytes that are free then."""
    command = [sys.executable, "-c", BALLAST, str(free)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the ballast cannot allocate the card's memory")
        yield int(line)
    finally:
        process.stdin.close()
        process.wait()


def describe_summary(out: Path) -> str:
    """The mitigations of memory pressure and the peak, from the summary of a run."""
    lines = []
    for file in out.rglob("processing_summary.json"):
        text = file.read_text()
        kinds = [event["kind"] for event in mitigations(json.loads(text))]
        counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
        peaks = [int(peak) for peak in re.findall(r'"(?:peak_bytes|bytes_peak)": *(\d+)', text)]
        lines.append(f"mitigations {counts or 'none'}, peak of the summary {max(peaks, default=0) / GIB:.2f} GiB")
    return "; ".join(lines) or "no summary"


def mitigations(value) -> list[dict]:
    if isinstance(value, dict):
        own = value.get("mitigation_events") or []
        return own + [event for key, part in value.items() if key != "mitigation_events" for event in mitigations(part)]
    return [event for part in value for event in mitigations(part)] if isinstance(value, list) else []


def run(dist: Path, work: Path, name: str, device: str, seconds: float, **environment: str) -> tuple[bool | None, str]:
    """Whether a run succeeded, none if it was cut, and a description."""
    out = work / f"out-{name}"
    arguments = write_manifest(work / f"{name}.yaml", work / "long", work / "bert-base", out, device)
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
        return written, f"succeeded, {describe_summary(out)}" if written else "wrote no Parquet"
    return False, f"exit code {done.returncode}: {' '.join(done.stderr.split())[-400:]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--budget", type=float, default=60)
    parser.add_argument("--dry", action="store_true", help="on the CPU, everything small, no ballast")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.budget
    dist, work = arguments.dist, arguments.work
    device = "cpu" if arguments.dry else "cuda"

    shape = SHAPES["bert-base"]
    write_model(shape.tiny() if arguments.dry else shape, work / "bert-base")
    (work / "long").mkdir(exist_ok=True)
    TextWriter(2).write("full", 32 if arguments.dry else 2048, work / "long/texts.jsonl")

    failed = False

    def report(name: str, passed: bool | None, description: str) -> None:
        nonlocal failed
        failed |= passed is False
        verdict = {True: "ok", False: "FAILED", None: "not judged"}[passed]
        print(f"{verdict}: {name}: {description}", flush=True)

    if arguments.dry:
        report("plain run", *run(dist, work, "ballast", device, end - time.monotonic()))
    else:
        with ballast(FREE * GIB) as free:
            name = f"{free / GIB:.1f} GiB free"
            report(name, *run(dist, work, "ballast", device, (end - time.monotonic()) / 2))

    before = query("memory.used")
    monitor = Monitor()
    ceiling = {"EMBEDRUN_MEMORY_CEILING": f"{CEILING}Gi"}
    passed, description = run(dist, work, "ceiling", device, end - time.monotonic(), **ceiling)
    monitor.stop()
    if (peak := monitor.peak()) is not None:
        # Memory that was in use before does not belong to the run.
        used = (peak - float(before[0])) / 1024
        passed = False if used > CEILING else passed
        description = f"the card's memory in use rose by {used:.2f} GiB; {description}"
    report(f"ceiling of {CEILING} GiB", passed, description)
    sys.exit(failed)


if __name__ == "__main__":
    main()
