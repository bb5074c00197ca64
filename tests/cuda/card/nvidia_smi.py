"""The utilization and the memory of the first card, from nvidia-smi, while other programs run."""

import subprocess
import threading
import time

COMMAND = ["nvidia-smi", "--format=csv,noheader,nounits"]


def query(fields: str) -> list[str]:
    """Fields of the first card; empty without a card."""
    try:
        done = subprocess.run([*COMMAND, f"--query-gpu={fields}"], stdout=subprocess.PIPE, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return [part.strip() for part in lines[0].split(",")] if lines else []


class Monitor:
    """Samples the first card ten times a second, until `stop`."""

    def __init__(self):
        self.samples = []  # (time, utilization in %, MiB in use)
        command = [*COMMAND, "--query-gpu=utilization.gpu,memory.used", "-lms", "100", "-i", "0"]
        try:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            self.process = None
            return
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        for line in self.process.stdout:
            busy, used = (part.strip() for part in line.split(","))
            # Some cards do not report their utilization.
            self.samples.append((time.monotonic(), float(busy) if busy.isdigit() else None, float(used)))

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.reader.join()

    def busy(self, start: float, end: float) -> float | None:
        """The mean utilization between two times of time.monotonic(), in %; none without samples."""
        samples = [busy for at, busy, _ in self.samples if start <= at <= end and busy is not None]
        return sum(samples) / len(samples) if samples else None

    def peak(self) -> float | None:
        """The largest memory in use, in MiB; none without samples."""
        return max((used for _, _, used in self.samples), default=None)
