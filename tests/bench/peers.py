"""Times what a user would run instead on the same texts: prints one JSON line for each measured setting.

    peers.py onnxruntime|sentence-transformers dense|sparse|rerank --model DIR --texts FILE

Time is from texts to vectors or scores in memory, tokenizing included; tokens do not include padding. Both sort
by length, pad a batch to its longest text and use `--threads` threads.
"""

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

import measure
import texts as corpus


class OnnxRuntime:
    """A float32 graph of the same weights; texts sorted by tokens, pooling in NumPy."""

    settings = [{"graph": graph, "batch": batch} for graph in ("fused", "exported") for batch in (4, 8, 16, 32)]
    default = None

    def __init__(self, task: str, folder: Path, max_tokens: int, threads: int):
        import onnxruntime

        # In its own process: the export needs torch and its memory, the graph does not.
        exporter = [sys.executable, Path(__file__).with_name("export_onnx.py"), task, folder]
        self.graphs = Path(subprocess.run(exporter, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.sessions = {}
        self.tokenizer = corpus.tokenizer(folder, max_tokens)
        self.task = task
        if task == "dense":
            self.cls = json.loads((folder / "1_Pooling/config.json").read_text())["pooling_mode_cls_token"]

    def session(self, graph: str):
        import onnxruntime

        if graph not in self.sessions:
            path = str(self.graphs / f"{graph}.onnx")
            self.sessions[graph] = onnxruntime.InferenceSession(path, self.options, ["CPUExecutionProvider"])
        return self.sessions[graph]

    def run(self, texts, setting):
        session, batch = self.session(setting["graph"]), setting["batch"]
        encodings = self.tokenizer.encode_batch(texts)
        order = sorted(range(len(texts)), key=lambda row: len(encodings[row]))
        rows = [None] * len(texts)
        for start in range(0, len(order), batch):
            members = order[start : start + batch]
            shape = len(members), len(encodings[members[-1]])
            ids, mask, types = (np.zeros(shape, np.int64) for _ in range(3))
            for line, row in enumerate(members):
                tokens = len(encodings[row])
                ids[line, :tokens] = encodings[row].ids
                mask[line, :tokens] = 1
                types[line, :tokens] = encodings[row].type_ids
            (output,) = session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": types})
            for row, value in zip(members, self.head(output, mask)):
                rows[row] = value
        return rows

    def head(self, output, mask):
        """A vector, a sparse vector or a score for each row of the graph's output."""
        if self.task == "rerank":
            return output[:, 0]
        if self.task == "sparse":
            indices = [np.flatnonzero(row) for row in output]
            return [(index, row[index]) for index, row in zip(indices, output)]
        if self.cls:
            pooled = output[:, 0]
        else:
            weights = mask[..., None].astype(np.float32)
            pooled = (output * weights).sum(axis=1) / weights.sum(axis=1)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


class SentenceTransformers:
    """SentenceTransformer, SparseEncoder or CrossEncoder on torch."""

    settings = [{"batch": batch} for batch in (8, 16, 32, 64)]
    default = {"batch": 32}

    def __init__(self, task: str, folder: Path, max_tokens: int, threads: int):
        import sentence_transformers
        import torch

        torch.set_num_threads(threads)
        self.task = task
        kinds = {"dense": "SentenceTransformer", "sparse": "SparseEncoder", "rerank": "CrossEncoder"}
        self.model = getattr(sentence_transformers, kinds[task])(str(folder), device="cpu")
        self.model.max_seq_length = max_tokens

    def run(self, texts, setting):
        options = {"batch_size": setting["batch"], "show_progress_bar": False}
        if self.task == "rerank":
            return self.model.predict(texts, **options)
        return self.model.encode(texts, **options)


PEERS = {"onnxruntime": OnnxRuntime, "sentence-transformers": SentenceTransformers}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("task", choices=["dense", "sparse", "rerank"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    measure.add_arguments(parser)
    arguments = parser.parse_args()

    texts = corpus.read(arguments.texts)
    tokens = corpus.count(arguments.model, texts, arguments.max_tokens)
    about = {
        "peer": arguments.peer,
        "version": version(arguments.peer),
        "task": arguments.task,
        "model": arguments.model.name,
    }

    def make():
        return PEERS[arguments.peer](arguments.task, arguments.model, arguments.max_tokens, arguments.threads)

    measure.measure(arguments, make, texts, tokens, about)


if __name__ == "__main__":
    main()
