"""The whole pipeline over glosses of WordNet, with their headwords as queries: how well each list finds the gloss."""

import json
import subprocess
import time
from pathlib import Path

import report
from contestants import RELEASE, Failed, version

# Glosses in total: that of every headword, and others evenly spaced over the corpus.
GLOSSES = 20_000
CANDIDATES = 20
METRICS = ["recall@10", f"recall@{CANDIDATES}", "mrr", "ndcg@10"]

MANIFEST = """\
apiVersion: embedrun.dev/v1alpha1
kind: EmbeddingRun
metadata: {{name: known-items}}
spec:
  collections: [{{name: wordnet, source: {{hostPath: {{path: "{work}/source"}}}}}}]
  models:
    dense:
      - {{name: minilm, source: "file://{minilm}"}}
      - {{name: bge, source: "file://{bge}"}}
    sparse: [{{name: splade, source: "file://{splade}", topK: 256}}]
    reranker: {{name: ce, source: "file://{reranker}"}}
  rerank: {{queries: {{configMap: {{name: queries, key: queries.jsonl}}}}, candidates: {candidates}, topK: 10}}
  gpu: {{count: 0}}
  output: {{hostPath: {{path: "{work}/out"}}}}
"""


def select(corpus: list[str], queries: list[str]) -> list[str]:
    """The lines of the relevant glosses and of others, in the order of the corpus."""
    relevant = {chunk for query in queries for chunk in json.loads(query)["relevant"]}
    others = [index for index, line in enumerate(corpus) if json.loads(line)["id"] not in relevant]
    step = max(1, len(others) // max(1, GLOSSES - len(relevant)))
    sampled = set(others[::step][: GLOSSES - len(relevant)])
    return [line for index, line in enumerate(corpus) if index in sampled or json.loads(line)["id"] in relevant]


def run(corpora: Path, models: dict[str, Path], work: Path, log: Path, command: str) -> str:
    """Runs the pipeline once and returns the table."""
    queries = (corpora / "wordnet_queries.jsonl").read_text("utf-8").splitlines()
    glosses = select((corpora / "wordnet.jsonl").read_text("utf-8").splitlines(), queries)
    for folder, name, lines in (("source", "glosses.jsonl", glosses), ("queries", "queries.jsonl", queries)):
        (work / folder).mkdir()
        (work / folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    manifest = work / "run.yaml"
    manifest.write_text(MANIFEST.format(work=work, candidates=CANDIDATES, **models))
    started = time.perf_counter()
    with log.open("w") as output:
        arguments = [RELEASE / "embedrun", "run", "-f", manifest, "--volume", f"configmap/queries={work}/queries"]
        done = subprocess.run(arguments, stdout=output, stderr=output)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise Failed(f"embedrun run ended with status {done.returncode}:\n{log.read_text()[-2000:]}")
    (summary,) = work.glob("out/runs/*/wordnet/processing_summary.json")
    return table(json.loads(summary.read_text()), seconds, command)


def table(summary: dict, seconds: float, command: str) -> str:
    """The quality of every list, and the time."""
    quality, rerank = summary["quality"], summary["rerank_run"]
    lines = [f"| | {' | '.join(METRICS)} |", "|---" * (len(METRICS) + 1) + "|"]
    for ranking in quality["lists"]:
        name = " ".join(filter(None, [ranking["stage"], ranking.get("model")]))
        values = [f"{ranking['metrics'][metric]:.3f}" for metric in METRICS]
        lines.append(f"| {name} | {' | '.join(values)} |")
    return (
        "\n".join(lines)
        + f"\n\n{quality['judged_queries']:,} headwords over {summary['chunk_count']:,} glosses; {rerank['pairs']:,} pairs "
        f"scored in {rerank['seconds']:.0f} of {seconds:.0f} seconds, {1000 * rerank['median_query_seconds']:.0f} ms a query "
        f"(median).\n{report.machine()}.\nembedrun {version()}. `{command}`"
    )
