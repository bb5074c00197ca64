"""The texts of a task, and how many tokens of them a model really reads."""

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
    """The tokenizer of a model folder; not with the padding and the truncation that its file asks for."""
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.no_padding()
    made.enable_truncation(max_tokens)
    return made


def count(folder: Path, texts: list[Text], max_tokens: int) -> int:
    """All tokens of the texts, special ones included, after truncation; no padding."""
    return sum(map(len, tokenizer(folder, max_tokens).encode_batch(texts)))
