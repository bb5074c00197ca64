"""The tables of docs/reference/benchmarks.md: one between the markers of each case, with the machine, the versions and the
command."""

import os
import platform
from pathlib import Path
from statistics import median

FEATURES = ["avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile", "asimd", "asimddp", "i8mm", "sve"]


def machine() -> str:
    """The processor, the cores that this process may use, and the vector instructions."""
    fields = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    features = ", ".join(feature for feature in FEATURES if feature in flags)
    model = fields.get("model name", platform.machine())
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {features}"


def table(results: list[dict], flop_per_token: int) -> str:
    """All contestants of a case. The first is the project; the last column is its rate divided by that of the row."""
    floor = next((row for row in results if row["peer"] == "matrix products alone"), None)
    lines = [
        "| | setting | tokens/s | slowest – fastest | GFLOP/s | of the matrix rate | peak MB | embedrun is |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results:
        rate = row["tokens_per_second"]
        setting = ", ".join(f"{key} {value}" for key, value in row["setting"].items())
        spread = f"{row['tokens'] / max(row['seconds']):,.0f} – {row['tokens'] / min(row['seconds']):,.0f}"
        cells = [
            row["peer"],
            setting,
            f"{rate:,}",
            spread,
            f"{rate * flop_per_token / 1e9:.0f}",
            f"{100 * median(ratios(row, floor)):.0f} %" if floor else "",
            f"{row['peak_rss_mb']:,.0f}",
            times(ratios(results[0], row)) if row is not results[0] else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ratios(row: dict, other: dict) -> list[float]:
    """The ratio of the rates in each round. The two ran one after the other, under the same load of the machine, which
    medians over different rounds did not."""
    pairs = zip(row["seconds"], other["seconds"], strict=True)
    return [(row["tokens"] / seconds) / (other["tokens"] / others) for seconds, others in pairs]


def times(values: list[float]) -> str:
    return f"{median(values):.2f} × ({min(values):.2f} – {max(values):.2f})"


def caption(results: list[dict], command: str) -> str:
    project = results[0]
    rounds = len(project["seconds"])
    texts = f"{project['texts']:,} texts of {project['tokens'] / project['texts']:.0f} tokens on average; "
    versions = ", ".join(sorted({f"{row['peer']} {row['version']}" for row in results}))
    return (
        f"{texts}medians of {rounds} rounds, with one pass of each contestant per round; ratios are those of a round.\n"
        f"{machine()}.\n"
        f"{versions}.\n"
        f"`{command}`"
    )


def write(document: Path, case: str, text: str) -> None:
    """Replaces the text between the markers of a case."""
    begin, end = f"<!-- bench {case} -->", f"<!-- end {case} -->"
    content = document.read_text("utf-8")
    before, has_begin, rest = content.partition(begin)
    _, has_end, after = rest.partition(end)
    if not has_begin or not has_end:
        raise SystemExit(f"{document} lacks the markers {begin} and {end}")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")


def spread(row: dict) -> str:
    return f"{median(row['seconds']):.1f} s ({min(row['seconds']):.1f} – {max(row['seconds']):.1f})"
