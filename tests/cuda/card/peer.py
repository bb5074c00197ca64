"""Times what a user would run instead on the same texts: prints one JSON line of the fastest batch size.

    peer.py dense|sparse|rerank --model DIR --texts FILE [--device cpu] [--part 8]

The peer is the first that can be imported: sentence-transformers, transformers, else the encoder of encoders.py. All
sort by length and pad a batch to its longest text. Time is from texts to vectors or scores on the host. The encoder of
encoders.py is given token ids, which is in its favour.
"""

import argparse
import contextlib
import importlib
import json
import logging
import os
import sys
import time
from pathlib import Path
from statistics import median

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import torch

from encoders import PlainEncoder, SortedBatches, pool, pooling_of, splade
from shapes import LONGEST

logging.disable(logging.WARNING)
BATCHES = (32, 64, 128, 256)


class SentenceTransformers:
    """SentenceTransformer, SparseEncoder or CrossEncoder."""

    def __init__(self, task: str, folder: Path, device: str, dtype: torch.dtype):
        library = importlib.import_module("sentence_transformers")
        kinds = {"dense": "SentenceTransformer", "sparse": "SparseEncoder", "rerank": "CrossEncoder"}
        options = {"dtype": dtype, "attn_implementation": "sdpa"}
        self.model = getattr(library, kinds[task])(str(folder), device=device, model_kwargs=options)
        self.model.to(dtype)
        self.task = task
        self.name = f"sentence-transformers {library.__version__}"

    def prepare(self, texts):
        return texts

    def run(self, texts, batch: int) -> list:
        options = {"batch_size": batch, "show_progress_bar": False}
        if self.task == "rerank":
            return self.model.predict(texts, **options)
        if self.task == "sparse":
            return self.model.encode(texts, save_to_cpu=True, **options)
        return self.model.encode(texts, **options)


class Transformers(SortedBatches):
    """A model class of transformers, with the pooling of encoders.py."""

    def __init__(self, task: str, folder: Path, device: str, dtype: torch.dtype):
        library = importlib.import_module("transformers")
        kinds = {
            "dense": "AutoModel",
            "sparse": "AutoModelForMaskedLM",
            "rerank": "AutoModelForSequenceClassification",
        }
        options = {"dtype": dtype, "attn_implementation": "sdpa"}
        self.model = getattr(library, kinds[task]).from_pretrained(folder, **options).to(device).eval()
        self.tokenizer = library.AutoTokenizer.from_pretrained(folder)
        self.task, self.device, self.pooling = task, device, pooling_of(folder)
        self.name = f"transformers {library.__version__}"

    def prepare(self, texts):
        return texts

    def length(self, text) -> int:
        return len(text) if isinstance(text, str) else sum(map(len, text))

    def batch(self, rows: list) -> torch.Tensor:
        texts = [list(side) for side in zip(*rows)] if self.task == "rerank" else [rows]
        options = {"padding": True, "truncation": True, "max_length": LONGEST, "return_tensors": "pt"}
        inputs = self.tokenizer(*texts, **options).to(self.device)
        output = self.model(**inputs)
        if self.task == "rerank":
            return output.logits[:, 0].float()
        if self.task == "sparse":
            return splade(output.logits, inputs["attention_mask"])
        return pool(output.last_hidden_state, inputs["attention_mask"], self.pooling)


PEERS = {"sentence-transformers": SentenceTransformers, "transformers": Transformers, "plain": PlainEncoder}


def open_peer(requested: str | None, *arguments):
    """The requested peer, or the first that can be loaded. Prints why others cannot."""
    for name, kind in PEERS.items():
        if requested in (None, name):
            try:
                return kind(*arguments)
            except Exception as error:
                if requested or kind is PlainEncoder:
                    raise
                print(f"peer.py: cannot load {name}: {type(error).__name__}: {error}"[:300], file=sys.stderr)
    raise AssertionError("the last peer needs PyTorch alone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["dense", "sparse", "rerank"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--peer", choices=PEERS)
    parser.add_argument("--part", type=int, default=1, help="compute only every PART-th text")
    parser.add_argument("--repeat", type=int, default=3, help="timed passes, after a warm-up")
    parser.add_argument("--budget", type=float, default=60, help="seconds after which no pass begins")
    parser.add_argument("--vectors", type=Path, help="a file for the rows of the first texts, to compare them")
    arguments = parser.parse_args()
    began = time.monotonic()

    on_card = arguments.device == "cuda"
    dtype = torch.float16 if on_card else torch.float32
    with contextlib.redirect_stdout(sys.stderr), torch.inference_mode():
        peer = open_peer(arguments.peer, arguments.task, arguments.model, arguments.device, dtype)
        with arguments.texts.open() as lines:
            records = [json.loads(line) for line in lines][:: arguments.part]
        texts = [row["text"] if "text" in row else (row["query"], row["document"]) for row in records]
        rows = peer.prepare(texts)
        if arguments.vectors:
            torch.save(peer.run(rows[:8], 1), arguments.vectors)

        def seconds(some: list, batch: int) -> float:
            started = time.perf_counter()
            peer.run(some, batch)
            if on_card:
                torch.cuda.synchronize()
            return time.perf_counter() - started

        over = lambda: time.monotonic() - began > arguments.budget
        few = rows[::4]
        seconds(few, BATCHES[0])
        taken = []
        trials = {}
        for batch in BATCHES:
            try:
                if not trials or not over():
                    trials[batch] = seconds(few, batch)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
        best = min(trials, key=trials.get)
        for _ in range(arguments.repeat):
            if taken and over():
                break
            taken.append(seconds(rows, best))
    line = {"peer": peer.name, "batch": best, "texts": len(rows), "seconds": taken}
    print(json.dumps(line | {"texts_per_second": len(rows) / median(taken)}))


if __name__ == "__main__":
    main()
