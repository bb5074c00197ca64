"""The texts of a task, and the number of their tokens that a model reads."""

import json
from pathlib import Path

from tokenizers import Tokenizer

Text = str | tuple[str, str]


def read(path: Path) -> list[Text]:
    """The texts of a JSON Lines file, or its pairs of query and document."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row["text"] if "text" in row else (row["query"], row["document"]) for row in rows]


def tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    """The tokenizer of a model folder, without the padding of its file and with truncation to `max_tokens`."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def count(folder: Path, texts: list[Text], max_tokens: int) -> int:
    """All tokens of the texts, special ones included, after truncation; no padding."""
    return sum(map(len, tokenizer(folder, max_tokens).encode_batch(texts)))
