"""Writes the test corpora as JSON Lines, from the unpacked files of three dictionaries.

    corpora.py /usr/share TOKENIZER.json FOLDER

| file                   | fields of a line     | content                                                             |
|------------------------|----------------------|---------------------------------------------------------------------|
| gcide.jsonl            | id, text             | all articles of the GNU Collaborative International Dictionary      |
| foldoc.jsonl           | id, text             | all articles of the Free On-line Dictionary of Computing            |
| wordnet.jsonl          | id, text             | all glosses of WordNet                                              |
| wordnet_queries.jsonl  | id, text, relevant   | 2,000 headwords, and the ids of every gloss that explains them      |
| mixed_1000.jsonl       | id, text             | 800 articles of GCIDE and 200 glosses: 60 tokens on average         |
| pairs_185.jsonl        | id, query, document  | 300 glosses with an article, of the same word in every second pair: |
|                        |                      | 185 tokens a pair on average                                        |

Tokens are counted with the given BERT tokenizer, special tokens included; no text of the last two files has more than
256. Selections are ordered by the digest of the id: they look random and are always the same.
"""

import gzip
import json
import string
import sys
from hashlib import sha256
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer

MAX_TOKENS = 256
DIGITS = {c: i for i, c in enumerate(string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/")}


def number(text: str) -> int:
    """Decodes a number of a dictd index: base 64, the most significant digit first."""
    value = 0
    for digit in text:
        value = value * 64 + DIGITS[digit]
    return value


def articles(folder: Path, name: str) -> list[dict]:
    """The articles of a dictd dictionary in its order, each once even if several headwords point to it."""
    content = gzip.decompress((folder / f"{name}.dict.dz").read_bytes())
    headwords_at = {}
    for line in (folder / f"{name}.index").read_text("utf-8").splitlines():
        headword, offset, length = line.split("\t")[:3]
        headwords_at.setdefault((number(offset), number(length)), []).append(headword)

    rows = []
    for (offset, length), headwords in sorted(headwords_at.items()):
        if any(word.startswith("00-") for word in headwords):  # metadata of the dictionary
            continue
        # A few bytes are not UTF-8. Line breaks and indents are page layout.
        text = " ".join(content[offset : offset + length].decode("utf-8", "replace").split())
        rows.append({"id": f"{name}-{len(rows):06}", "text": text, "headwords": headwords})
    return rows


def synsets(folder: Path) -> list[dict]:
    """The glosses of WordNet with the headwords that each explains."""
    rows = []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text("ascii").splitlines():
            if line.startswith(" "):  # the licence, before the data
                continue
            fields, gloss = line.split(" | ", 1)
            offset, _, kind, count, *words = fields.split()
            # Each word is followed by a number; an adjective may end in a marker of its position, as in `galore(ip)`.
            words = [word.split("(")[0].replace("_", " ") for word in words[: 2 * int(count, 16) : 2]]
            rows.append({"id": f"wordnet-{kind}{offset}", "text": gloss.strip(), "headwords": words})
    return rows


def shuffled(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: sha256(row["id"].encode()).digest())


def by_headword(rows: list[dict]) -> dict[str, list[dict]]:
    by_word = {}
    for row in rows:
        for word in dict.fromkeys(word.lower() for word in row["headwords"]):
            by_word.setdefault(word, []).append(row)
    return by_word


def known_items(glosses: list[dict]) -> list[dict]:
    """Queries whose answers are known exactly: a headword, and every gloss that explains it."""
    words = by_headword(glosses)
    queries = shuffled([{"id": f"query-{word}", "text": word} for word in words])[:2000]
    return [query | {"relevant": [row["id"] for row in words[query["text"]]]} for query in queries]


def mixed(count, encyclopedic: list[dict], glosses: list[dict]) -> list[dict]:
    short = [
        islice((row for row in shuffled(rows) if count(row["text"]) <= MAX_TOKENS), number_of_rows)
        for rows, number_of_rows in ((encyclopedic, 800), (glosses, 200))
    ]
    return shuffled([row for part in short for row in part])


def pairs(count, documents: list[dict], glosses: list[dict]) -> list[dict]:
    """Glosses as queries, in turn with the article of the same headword and with the article of the gloss before."""
    words = by_headword(documents)
    rows, unrelated = [], None
    for gloss in shuffled(glosses):
        related = words.get(gloss["headwords"][0].lower(), [None])[0]
        document = related if len(rows) % 2 == 0 else unrelated
        if document and 135 <= count(gloss["text"], document["text"]) <= MAX_TOKENS:
            row = {"id": f"pair-{len(rows):03}", "query": gloss["text"], "document": document["text"]}
            rows.append(row)
            unrelated = document
        if len(rows) == 300:
            return rows
    raise SystemExit(f"found only {len(rows)} of 300 pairs of a gloss and an article")


def main():
    share, tokenizer, out = sys.argv[1:]
    tokenizer = Tokenizer.from_file(tokenizer)
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def count(*text: str) -> int:
        return len(tokenizer.encode(*text).ids)

    gcide, foldoc = (articles(Path(share, "dictd"), name) for name in ("gcide", "foldoc"))
    wordnet = synsets(Path(share, "wordnet"))
    files = {
        "gcide": gcide,
        "foldoc": foldoc,
        "wordnet": wordnet,
        "wordnet_queries": known_items(wordnet),
        "mixed_1000": mixed(count, gcide, wordnet),
        "pairs_185": pairs(count, gcide, wordnet),
    }
    for name, rows in files.items():
        with Path(out, f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                row.pop("headwords", None)
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
