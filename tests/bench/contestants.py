"""The contestants of a case. They take turns, one pass each, so that a slow minute of the machine affects all of them.

A contestant has `run_once()`, which returns the seconds of one pass over all texts, and `result()`, its result line.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RELEASE = ROOT / "target/release"


class Failed(Exception):
    """A program of the benchmark failed: its command and the last lines of its log."""


def output(command: list, log: Path) -> str:
    """The standard output of a command that must succeed; its standard error goes to the log."""
    with log.open("a") as errors:
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=errors, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{log.read_text()[-2000:]}")
    return done.stdout


class Paced:
    """A program that stays loaded between its passes."""

    def __init__(self, command: list, log: Path):
        self.log = log
        with log.open("a") as errors:
            self.process = subprocess.Popen(
                [str(part) for part in [*command, "--paced"]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.line()

    def line(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{' '.join(map(str, self.process.args))} ended:\n{self.log.read_text()[-2000:]}")
        return json.loads(line)

    def run_once(self) -> float:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.line()["seconds"]

    def result(self) -> dict:
        self.process.stdin.close()
        line = self.line()
        self.process.wait()
        return line

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def paced(script: str, arguments: list, log: Path) -> list[Paced]:
    """A contestant for each of the settings that the script chooses."""
    settings = json.loads(output([sys.executable, HERE / script, *arguments, "--choose"], log))
    command = [sys.executable, HERE / script, *arguments, "--setting"]
    return [Paced([*command, json.dumps(setting)], log) for setting in settings]


class Encode(Paced):
    """The project's library, called by the example `encode`: from texts to vectors or scores in memory."""

    def __init__(self, task: str, model: Path, texts: Path, log: Path):
        command = [RELEASE / "examples/encode", "--task", task, "--model", model, "--texts", texts]
        super().__init__([*command, "--max-tokens", 256], log)
        self.model = model

    def result(self) -> dict:
        line = super().result()
        return line | {
            "peer": "embedrun",
            "version": version(),
            "model": self.model.name,
            "setting": {},
            "tokens_per_second": round(line["tokens"] / median(line["seconds"])),
        }


class EndToEnd:
    """`embedrun run` with the documented manifest of one machine: JSON Lines to Parquet, including the process
    start."""

    def __init__(self, model: Path, texts: Path, tokens: int, work: Path, log: Path):
        self.model, self.tokens, self.work, self.log = model, tokens, work, log
        self.taken, self.peak = [], 0
        self.source = work / "notes"
        self.source.mkdir()
        (self.source / "notes.jsonl").write_bytes(texts.read_bytes())

    def run_once(self) -> float:
        # A new output folder each time, since finished rows are not computed again.
        out = self.work / f"vectors-{len(self.taken)}"
        manifest = self.work / "run.yaml"
        example = (ROOT / "docs/examples/one-machine.yaml").read_text()
        for documented, here in {
            "/srv/notes": self.source,
            "/srv/models/all-MiniLM-L6-v2": self.model,
            "/srv/vectors": out,
        }.items():
            example = example.replace(documented, str(here))
        manifest.write_text(example)

        started = time.perf_counter()
        with self.log.open("a") as log:
            process = subprocess.Popen([RELEASE / "embedrun", "run", "-f", manifest], stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
        self.taken.append(time.perf_counter() - started)
        if status != 0 or not list(out.rglob("*.parquet")):
            raise Failed(f"embedrun run ended with status {status}:\n{self.log.read_text()[-2000:]}")
        self.peak = max(self.peak, round(usage.ru_maxrss / 1024))
        return self.taken[-1]

    def result(self) -> dict:
        return {
            "peer": "embedrun run, end to end",
            "version": version(),
            "model": self.model.name,
            "setting": {},
            "tokens": self.tokens,
            "seconds": self.taken,
            "tokens_per_second": round(self.tokens / median(self.taken)),
            "peak_rss_mb": self.peak,
        }

    def stop(self) -> None:
        """Nothing to stop: no process runs between the passes."""


def version() -> str:
    """The short commit hash, with `-changed` if anything except docs/ differs from it."""

    def git(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], stdout=subprocess.PIPE, text=True)

    changed = git("diff", "--quiet", "HEAD", "--", ".", ":!docs").returncode != 0
    return git("rev-parse", "--short", "HEAD").stdout.strip() + "-changed" * changed
