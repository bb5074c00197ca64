"""Texts over the made-up vocabularies, of a known number of tokens.

    texts.py KIND NUMBER FILE       writes JSON Lines; KIND is one of KINDS
"""

import argparse
import json
import random
from pathlib import Path

from shapes import LONGEST
from vocabularies import words

KINDS = ("uniform", "short", "full", "pairs", "bytes")


class TextWriter:
    """Composes texts of a number of tokens, special ones included."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.three, self.four, self.suffixes = words()
        self.whole_words = self.three + self.four

    def prose(self, tokens: int) -> str:
        """Words of a WordPiece vocabulary; about every fifth token is a suffix."""
        parts, rng = [], self.rng
        while tokens > 0:
            if tokens >= 2 and rng.random() < 0.25:
                parts.append(rng.choice(self.four) + rng.choice(self.suffixes))
                tokens -= 2
            else:
                parts.append(rng.choice(self.whole_words))
                tokens -= 1
        return " ".join(parts)

    def uniform(self) -> dict:
        return {"text": self.prose(self.rng.randint(16, LONGEST) - 2)}

    def short(self) -> dict:
        """24 tokens on average, few texts are long."""
        return {"text": self.prose(max(4, min(128, round(self.rng.lognormvariate(3.08, 0.44)))) - 2)}

    def full(self) -> dict:
        return {"text": self.prose(LONGEST - 2)}

    def pairs(self) -> dict:
        """A hundred documents per query."""
        if self.made % 100 == 0:
            self.query_tokens = self.rng.randint(6, 14)
            self.query = self.prose(self.query_tokens)
        tokens = max(32, min(LONGEST, round(self.rng.gauss(190, 40))))
        return {"query": self.query, "document": self.prose(tokens - self.query_tokens - 3)}

    def bytes(self) -> dict:
        """Words of a byte-level vocabulary. The first has no space before it and is three tokens; a special token
        follows the last."""
        return {"text": " ".join(self.rng.choice(self.three) for _ in range(LONGEST - 3))}

    def write(self, kind: str, number: int, file: Path) -> None:
        """Writes JSON Lines of `number` texts or pairs; `kind` is one of KINDS."""
        make = getattr(self, kind)
        with file.open("w") as out:
            for self.made in range(number):
                record = make()
                if kind != "pairs":
                    record = {"id": str(self.made), **record}
                out.write(json.dumps(record) + "\n")


def token_ids(text: str, entries: dict[str, int]) -> list[int]:
    """The WordPiece ids of a text of `TextWriter`, without special tokens."""
    ids = []
    for word in text.split():
        head, rest = word[:4], word[4:]
        ids.append(entries[head])
        if rest:
            ids.append(entries[f"##{rest}"])
    return ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("number", type=int)
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    TextWriter(1).write(arguments.kind, arguments.number, arguments.file)


if __name__ == "__main__":
    main()
