"""The rate of the tokenizer alone, by threads: no model can be faster.

    tokenizer.py --model DIR --texts FILE
"""

import argparse
import os
from importlib.metadata import version
from pathlib import Path

import measure
import texts as corpus

# One pass over the texts alone would be too short to time.
TIMES = 8


class Alone:
    settings = [{"threads": 2}]
    default = {"threads": 1}

    def __init__(self, folder: Path, max_tokens: int):
        self.tokenizer = corpus.tokenizer(folder, max_tokens)

    def run(self, texts, _):
        self.tokenizer.encode_batch(texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--max-tokens", type=int, default=256)
    measure.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.setting:
        # The library reads it once, at the first batch.
        os.environ["RAYON_NUM_THREADS"] = str(arguments.setting["threads"])

    texts = corpus.read(arguments.texts) * TIMES
    tokens = corpus.count(arguments.model, texts, arguments.max_tokens)
    about = {"peer": "tokenizer alone", "version": version("tokenizers"), "model": arguments.model.name}
    measure.measure(arguments, lambda: Alone(arguments.model, arguments.max_tokens), texts, tokens, about)


if __name__ == "__main__":
    main()
