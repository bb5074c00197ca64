"""Writes trec_eval.json: rankings, judgements, and the metrics that trec_eval computes for them.

The values are those of trec_eval itself, through pytrec_eval. They are committed, so that the tests need no Python:

    "$(scripts/python-env.sh quality)" tests/quality/make.py
"""

import json
import random
from importlib.metadata import version
from pathlib import Path

import pytrec_eval

MEASURES = {"ndcg@3": "ndcg_cut_3", "ndcg@10": "ndcg_cut_10", "recall@3": "recall_3", "recall@10": "recall_10", "mrr": "recip_rank"}


def case(number: int) -> tuple[list[str], dict[str, int]]:
    """A ranking of chunks, the best first, and grades. Some judged chunks are not ranked, as if they were lost."""
    choose = random.Random(number)
    chunks = [f"c{index:02}" for index in range(choose.choice([1, 5, 12, 30]))]
    choose.shuffle(chunks)
    judged = choose.sample(chunks, min(len(chunks), choose.randint(1, 14)))
    judged += [f"lost{index}" for index in range(choose.choice([0, 0, 1, 4]))]
    grades = {chunk: choose.choice([0, 1, 1, 2, 3]) for chunk in judged}
    grades[judged[0]] = max(1, grades[judged[0]])
    return chunks, grades


def main() -> None:
    cases = {f"q{number}": case(number) for number in range(24)}
    evaluator = pytrec_eval.RelevanceEvaluator(
        {query: grades for query, (_, grades) in cases.items()}, {"ndcg_cut.3,10", "recall.3,10", "recip_rank"}
    )
    # Scores that fall, so that no two chunks tie.
    values = evaluator.evaluate(
        {query: {chunk: float(-rank) for rank, chunk in enumerate(ranking)} for query, (ranking, _) in cases.items()}
    )
    queries = [
        {"ranking": ranking, "grades": grades, "metrics": {name: values[query][ours] for name, ours in MEASURES.items()}}
        for query, (ranking, grades) in cases.items()
    ]
    lines = ",\n".join("  " + json.dumps(query) for query in queries)
    source = f"trec_eval, by pytrec-eval-terrier {version('pytrec-eval-terrier')}"
    text = f'{{"source": {json.dumps(source)}, "queries": [\n{lines}\n]}}\n'
    Path(__file__).with_name("trec_eval.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
