"""What a card does and holds, as nvidia-smi says it while other programs run."""

import subprocess
import threading
import time

QUERY = ["nvidia-smi", "--format=csv,noheader,nounits"]


def ask(fields: str) -> list[str]:
    """The fields of the first card; empty where there is none."""
    try:
        said = subprocess.run([*QUERY, f"--query-gpu={fields}"], stdout=subprocess.PIPE, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = said.stdout.splitlines() if said.returncode == 0 else []
    return [part.strip() for part in lines[0].split(",")] if lines else []


class Watch:
    """Samples of the first card, ten a second, until `stop`."""

    def __init__(self):
        self.samples = []  # of (when, utilization in %, MiB in use)
        command = [*QUERY, "--query-gpu=utilization.gpu,memory.used", "-lms", "100", "-i", "0"]
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
            # Some cards do not say how busy they are.
            self.samples.append((time.monotonic(), float(busy) if busy.isdigit() else None, float(used)))

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.reader.join()

    def busy(self, start: float, end: float) -> float | None:
        """The mean utilization between two moments of time.monotonic()."""
        found = [busy for at, busy, _ in self.samples if start <= at <= end and busy is not None]
        return sum(found) / len(found) if found else None

    def peak(self) -> float | None:
        return max((used for _, _, used in self.samples), default=None)
