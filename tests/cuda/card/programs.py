"""Runs of the programs of DIST: their output, and the manifest of a run."""

import subprocess
from pathlib import Path

from nvidia_smi import Monitor


class Failed(Exception):
    """A program failed: its name and the last lines that it wrote."""


def output(command: list, seconds: float, monitor: Monitor | None = None) -> str:
    """The standard output of a program that has `seconds`; stops the monitor when the program ends."""
    if seconds <= 0:
        raise Failed("no time left")
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failed(f"{Path(command[0]).name}: cut after {seconds:.0f} s") from None
    finally:
        if monitor:
            monitor.stop()
    if done.returncode != 0:
        last = " ".join(done.stderr.split())[-300:]
        raise Failed(f"{Path(command[0]).name} ended with exit code {done.returncode}: {last}")
    return done.stdout


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


def write_manifest(file: Path, source: Path, model: Path, out: Path, device: str) -> list[str]:
    """Writes a manifest and returns the arguments of `embedrun` that run it."""
    on_gpu = device == "cuda"
    folders = {"source": source, "model": model, "out": out}
    file.write_text(MANIFEST.format(**folders, dtype="F16" if on_gpu else "F32", gpus=int(on_gpu)))
    return ["--quiet", "run", "-f", str(file), "--device", device]
