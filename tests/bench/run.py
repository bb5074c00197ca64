"""Runs the project and what a user would run instead on the same texts, and writes docs/reference/benchmarks.md.

    run.py [CASE…]        all cases, or only these: floors minilm bge splade rerank end-to-end known-items

All contestants are loaded and warm before the first round. In each round they take turns with one pass over all texts,
so that a slow minute of the machine affects all of them. The result lines are in target/bench/CASE.jsonl.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import known_items
import report
import texts as corpus
from contestants import HERE, ROOT, Encode, EndToEnd, Failed, output, paced
from flop import flop_per_token

MAX_TOKENS = 256
DOCUMENT = ROOT / "docs/reference/benchmarks.md"
WORK = ROOT / "target/bench"


@dataclass
class Case:
    """A model, a task, and the number of texts from the start of a corpus."""

    task: str
    model: str
    corpus: str
    texts: int


CASES = {
    "minilm": Case("dense", "all-MiniLM-L6-v2", "mixed_1000", 1000),
    "bge": Case("dense", "bge-small-en-v1.5-dq", "mixed_1000", 300),
    "splade": Case("sparse", "splade-tiny", "mixed_1000", 500),
    "rerank": Case("rerank", "ms-marco-MiniLM-L12-v2-dq", "pairs_185", 100),
}
# The other two have the same products as the first, in more layers.
FLOORS = ["minilm", "splade"]
# Enough texts that starting the process and loading the model weigh as little as for a user.
END_TO_END_TIMES = 4


def script(name: str, *arguments: str) -> Path:
    done = subprocess.run([ROOT / "scripts" / name, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip())


def rounds(contestants: list, repeat: int) -> list[dict]:
    """The result of each contestant after `repeat` rounds."""
    with ExitStack() as stack:
        for contestant in contestants:
            stack.callback(contestant.stop)
        for _ in range(repeat):
            for contestant in contestants:
                contestant.run_once()
        return [contestant.result() for contestant in contestants]


def write_results(name: str, results: list[dict]) -> None:
    (WORK / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in results))


def command(name: str, repeat: int) -> str:
    return f"make bench CASES={name} REPEAT={repeat}"


def compare(name: str, case: Case, repeat: int) -> None:
    """The project against its peers and against the matrix products alone."""
    model = script("models.sh", case.model)
    log = WORK / f"{name}.log"
    log.unlink(missing_ok=True)
    texts = WORK / f"{name}-texts.jsonl"
    rows = (script("corpora.sh") / f"{case.corpus}.jsonl").read_text("utf-8").splitlines(keepends=True)
    texts.write_text("".join(rows[: case.texts]), "utf-8")

    contestants = [Encode(case.task, model, texts, log)]
    for peer in ("onnxruntime", "sentence-transformers"):
        contestants += paced("peers.py", [peer, case.task, "--model", model, "--texts", texts], log)
    contestants += paced("matrix.py", [case.task, "--model", model], log)
    results = rounds(contestants, repeat)
    write_results(name, results)

    token_counts = {row["tokens"] for row in results if row["peer"] != "matrix products alone"}
    if len(token_counts) > 1:
        raise Failed(f"{name}: contestants count different numbers of tokens: {sorted(token_counts)}")
    flop = flop_per_token(case.task, json.loads((model / "config.json").read_text()))
    text = f"{report.table(results, flop)}\n\n{report.caption(results, command(name, repeat))}"
    report.write(DOCUMENT, name, text)
    print(f"\n{case.model}\n{text}")


def end_to_end(name: str, repeat: int) -> None:
    """JSON Lines to Parquet, against the same model on the same texts in memory."""
    model = script("models.sh", "all-MiniLM-L6-v2")
    log = WORK / f"{name}.log"
    log.unlink(missing_ok=True)
    mixed = script("corpora.sh") / "mixed_1000.jsonl"
    rows = [json.loads(line) for line in mixed.read_text("utf-8").splitlines()]
    many = WORK / f"{name}-texts.jsonl"
    with many.open("w", encoding="utf-8") as file:
        for time in range(END_TO_END_TIMES):
            for row in rows:
                file.write(json.dumps({"id": f"{row['id']}-{time}", "text": row["text"]}) + "\n")
    tokens = corpus.count(model, corpus.read(many), MAX_TOKENS)

    with tempfile.TemporaryDirectory(dir=WORK) as work:
        contestants = [Encode("dense", model, mixed, log), EndToEnd(model, many, tokens, Path(work), log)]
        results = rounds(contestants, repeat)
    write_results(name, results)
    alone, whole = results
    shares = [100 * ratio for ratio in report.ratios(whole, alone)]
    share = f"{median(shares):.0f} % ({min(shares):.0f} – {max(shares):.0f})"
    text = (
        "| | tokens | seconds | tokens/s | of the model's own rate | peak MB |\n"
        "|---|---|---|---|---|---|\n"
        f"| the model's own rate, in memory | {alone['tokens']:,} | {report.spread(alone)} "
        f"| {alone['tokens_per_second']:,} | | {alone['peak_rss_mb']:,.0f} |\n"
        f"| `embedrun run`, JSON Lines to Parquet | {whole['tokens']:,} | {report.spread(whole)} "
        f"| {whole['tokens_per_second']:,} | {share} "
        f"| {whole['peak_rss_mb']:,} |\n\n"
        f"{report.caption(results, command(name, repeat))}"
    )
    report.write(DOCUMENT, name, text)
    print(f"\nend to end\n{text}")


def wordnet(name: str) -> None:
    """The quality of every stage. One run suffices, since the same input gives the same lists."""
    folders = {
        "minilm": "all-MiniLM-L6-v2",
        "bge": "bge-small-en-v1.5-dq",
        "splade": "splade-tiny",
        "reranker": "ms-marco-MiniLM-L12-v2-dq",
    }
    models = {role: script("models.sh", folder) for role, folder in folders.items()}
    with tempfile.TemporaryDirectory(dir=WORK) as work:
        log = WORK / f"{name}.log"
        text = known_items.run(script("corpora.sh"), models, Path(work), log, f"make bench CASES={name}")
    report.write(DOCUMENT, name, text)
    print(f"\n{name}\n{text}")


def floors(name: str, repeat: int) -> None:
    """Upper bounds of the speed: the matrix products alone, and the tokenizer alone."""
    log = WORK / f"{name}.log"
    log.unlink(missing_ok=True)
    results, lines = [], ["| | threads | tokens/s | GFLOP/s | best of |", "|---|---|---|---|---|"]
    for case in map(CASES.get, FLOORS):
        model = script("models.sh", case.model)
        flop = flop_per_token(case.task, json.loads((model / "config.json").read_text()))
        for threads in (2, 1):
            arguments = [HERE / "matrix.py", case.task, "--model", model, "--threads", threads, "--repeat", repeat]
            row = json.loads(output([sys.executable, *arguments], log))
            results.append(row)
            rate = row["tokens_per_second"]
            lines.append(
                f"| matrix products of {case.model} | {threads} | {rate:,} | {rate * flop / 1e9:.0f} "
                f"| {row['setting']['library']}, {row['setting']['weights']} |"
            )
    texts = script("corpora.sh") / "mixed_1000.jsonl"
    model = script("models.sh", "all-MiniLM-L6-v2")
    arguments = [HERE / "tokenizer.py", "--model", model, "--texts", texts, "--repeat", repeat]
    for line in output([sys.executable, *arguments], log).splitlines():
        row = json.loads(line)
        results.append(row)
        lines.append(f"| tokenizer alone | {row['setting']['threads']} | {row['tokens_per_second']:,} | | |")
    write_results(name, results)

    versions = ", ".join(sorted({row["version"] for row in results[:-2]} | {f"tokenizers {results[-1]['version']}"}))
    table = "\n".join(lines)
    text = f"{table}\n\n{report.machine()}.\n{versions}. `{command(name, repeat)}`"
    report.write(DOCUMENT, name, text)
    print(f"\nfloors\n{text}")


def main():
    names = ["floors", *CASES, "end-to-end", "known-items"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(names))
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--texts", type=int, help="another number of texts than the case's")
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - set(names)
    if unknown:
        parser.error(f"unknown case {', '.join(sorted(unknown))}; known: {', '.join(names)}")

    WORK.mkdir(parents=True, exist_ok=True)
    built = ["cargo", "build", "--locked", "--release", "-p", "embedrun-runner", "--bin", "embedrun"]
    subprocess.run([*built, "--example", "encode"], cwd=ROOT, check=True)
    try:
        for name in arguments.cases or names:
            if name == "floors":
                floors(name, arguments.repeat)
            elif name == "end-to-end":
                end_to_end(name, arguments.repeat)
            elif name == "known-items":
                wordnet(name)
            else:
                case = CASES[name]
                case.texts = arguments.texts or case.texts
                compare(name, case, arguments.repeat)
    except Failed as failure:
        raise SystemExit(f"bench: {failure}") from failure


if __name__ == "__main__":
    main()
