"""What a user would run instead, on the same texts: one JSON line of the fastest batch size.

    peer.py dense|sparse|rerank --model DIR --texts FILE [--device cpu] [--part 8]

The peer is the first that can be imported: sentence-transformers, transformers, else the encoder below. All sort by
length and pad a batch to its longest text. Time is from texts to vectors or scores on the host; the encoder below is
given tokens, which is in its favour.
"""

import argparse
import contextlib
import importlib
import json
import logging
import os
import struct
import sys
import time
from pathlib import Path
from statistics import median

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import torch
from torch.nn import functional

import shapes

logging.disable(logging.WARNING)
BATCHES = (32, 64, 128, 256)


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Vectors of length 1; `mask` is 1 where there is a token."""
    if pooling == "cls":
        pooled = hidden[:, 0]
    elif pooling == "lasttoken":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
        pooled = hidden[torch.arange(len(hidden), device=hidden.device), last]
    else:
        weights = mask[..., None].to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
    return functional.normalize(pooled.float(), dim=1)


def splade(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = torch.log1p(functional.relu(logits)) * mask[..., None].to(logits.dtype)
    return weights.amax(1).to_sparse()


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


class Sorted:
    """Batches of texts of about one length, each padded to its longest; the caller's order is not restored."""

    def run(self, rows: list, batch: int) -> list:
        rows = sorted(rows, key=self.length, reverse=True)
        found = [self.batch(rows[at : at + batch]) for at in range(0, len(rows), batch)]
        return [rows.cpu() for rows in found]


class Transformers(Sorted):
    """A model class of transformers, with the pooling here."""

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
        options = {"padding": True, "truncation": True, "max_length": shapes.LONGEST, "return_tensors": "pt"}
        inputs = self.tokenizer(*texts, **options).to(self.device)
        output = self.model(**inputs)
        if self.task == "rerank":
            return output.logits[:, 0].float()
        if self.task == "sparse":
            return splade(output.logits, inputs["attention_mask"])
        return pool(output.last_hidden_state, inputs["attention_mask"], self.pooling)


class Encoder(Sorted):
    """BERT and Qwen3 with PyTorch's own operations, for where nothing else is installed."""

    def __init__(self, task: str, folder: Path, device: str, dtype: torch.dtype):
        self.config = json.loads((folder / "config.json").read_text())
        self.entries = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        self.weights = {name: tensor.to(device, dtype) for name, tensor in read_safetensors(folder).items()}
        self.task, self.device, self.pooling = task, device, pooling_of(folder)
        self.is_qwen = self.config["model_type"] == "qwen3"
        self.heads = self.config["num_attention_heads"]
        self.name = f"PyTorch {torch.__version__}"

    def prepare(self, texts) -> list[tuple[list[int], int]]:
        """The ids of every text, and where its second segment begins."""
        if self.is_qwen:
            word = lambda at, text: list(text) if at == 0 else [f"Ġ{text}"]
            parts = lambda text: [entry for at, part in enumerate(text.split()) for entry in word(at, part)]
            of = lambda text: [self.entries[entry] for entry in parts(text)]
            return [(of(text) + [0], 0) for text in texts]
        of = lambda text: shapes.token_ids(text, self.entries)
        start, end = self.entries["[CLS]"], self.entries["[SEP]"]
        if self.task == "rerank":
            first = [[start, *of(query), end] for query, _ in texts]
            return [(before + of(text) + [end], len(before)) for before, (_, text) in zip(first, texts)]
        rows = [[start, *of(text), end] for text in texts]
        return [(row, len(row)) for row in rows]

    def length(self, row) -> int:
        return len(row[0])

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        weight = self.weights[f"{name}.weight"]
        if self.is_qwen:
            return functional.rms_norm(x, weight.shape, weight, self.config["rms_norm_eps"])
        return functional.layer_norm(x, weight.shape, weight, self.weights[f"{name}.bias"], 1e-12)

    def attend(self, query, key, value, mask, heads: int, kv_heads: int, rotate=lambda x: x) -> torch.Tensor:
        rows, tokens = query.shape[:2]
        query, key, value = (
            x.view(rows, tokens, count, -1).transpose(1, 2)
            for x, count in ((query, heads), (key, kv_heads), (value, kv_heads))
        )
        found = functional.scaled_dot_product_attention(
            rotate(query),
            rotate(key),
            value,
            attn_mask=mask,
            is_causal=mask is None and self.is_qwen,
            enable_gqa=heads != kv_heads,
        )
        return found.transpose(1, 2).reshape(rows, tokens, -1)

    def batch(self, rows: list) -> torch.Tensor:
        longest = max(map(self.length, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in rows])
        lengths = torch.tensor([len(row) for row, _ in rows])
        second = torch.tensor([begin for _, begin in rows])
        ids, lengths, second = (x.to(self.device) for x in (ids, lengths, second))
        place = torch.arange(longest, device=self.device)
        mask = place < lengths[:, None]
        # Where no row is padded there is no mask, which lets the fastest kernel run.
        full = bool((torch.tensor([len(row) for row, _ in rows]) == longest).all())
        if self.is_qwen:
            return pool(self.qwen(ids, place), mask.int(), self.pooling)
        types = ((place >= second[:, None]) & mask).long()
        before = "" if self.task == "dense" else "bert."
        hidden = self.bert(before, ids, types, place, None if full else mask[:, None, None])
        if self.task == "dense":
            return pool(hidden, mask.int(), self.pooling)
        if self.task == "rerank":
            return self.linear("classifier", torch.tanh(self.linear("bert.pooler.dense", hidden[:, 0])))[:, 0].float()
        head = "cls.predictions"
        hidden = functional.gelu(self.linear(f"{head}.transform.dense", hidden))
        hidden = self.norm(f"{head}.transform.LayerNorm", hidden)
        words = self.weights["bert.embeddings.word_embeddings.weight"]
        return splade(functional.linear(hidden, words, self.weights[f"{head}.bias"]), mask)

    def bert(self, before: str, ids, types, place, mask) -> torch.Tensor:
        at = f"{before}embeddings"
        look_up = lambda name, indices: functional.embedding(indices, self.weights[f"{at}.{name}_embeddings.weight"])
        x = look_up("word", ids) + look_up("position", place) + look_up("token_type", types)
        x = self.norm(f"{at}.LayerNorm", x)
        for layer in range(self.config["num_hidden_layers"]):
            at = f"{before}encoder.layer.{layer}"
            parts = (self.linear(f"{at}.attention.self.{name}", x) for name in ("query", "key", "value"))
            attended = self.linear(f"{at}.attention.output.dense", self.attend(*parts, mask, self.heads, self.heads))
            x = self.norm(f"{at}.attention.output.LayerNorm", x + attended)
            inner = functional.gelu(self.linear(f"{at}.intermediate.dense", x))
            x = self.norm(f"{at}.output.LayerNorm", x + self.linear(f"{at}.output.dense", inner))
        return x

    def qwen(self, ids, place) -> torch.Tensor:
        """Padding is behind the texts, where causal attention does not see it."""
        width, kv_heads = self.config["head_dim"], self.config["num_key_value_heads"]
        steps = torch.arange(0, width, 2, device=self.device) / width
        angles = place[:, None] / self.config["rope_theta"] ** steps
        x = functional.embedding(ids, self.weights["embed_tokens.weight"])
        cos, sin = (torch.cat([part, part], 1).to(x.dtype) for part in (angles.cos(), angles.sin()))

        def rotate(heads: torch.Tensor) -> torch.Tensor:
            first, second = heads.chunk(2, -1)
            return heads * cos + torch.cat([-second, first], -1) * sin

        for layer in range(self.config["num_hidden_layers"]):
            at = f"layers.{layer}"
            normed = self.norm(f"{at}.input_layernorm", x)
            query, key, value = (self.linear(f"{at}.self_attn.{name}_proj", normed) for name in "qkv")
            query, key = (
                self.norm(f"{at}.self_attn.{name}_norm", part.unflatten(-1, (-1, width))).flatten(-2)
                for name, part in (("q", query), ("k", key))
            )
            attended = self.attend(query, key, value, None, self.heads, kv_heads, rotate)
            x = x + self.linear(f"{at}.self_attn.o_proj", attended)
            normed = self.norm(f"{at}.post_attention_layernorm", x)
            gate = functional.silu(self.linear(f"{at}.mlp.gate_proj", normed))
            x = x + self.linear(f"{at}.mlp.down_proj", gate * self.linear(f"{at}.mlp.up_proj", normed))
        return self.norm("norm", x)


def pooling_of(folder: Path) -> str:
    file = folder / "1_Pooling/config.json"
    if not file.exists():
        return ""
    flags = json.loads(file.read_text())
    names = {"cls_token": "cls", "lasttoken": "lasttoken", "mean_tokens": "mean"}
    return next(name for flag, name in names.items() if flags[f"pooling_mode_{flag}"])


def read_safetensors(folder: Path) -> dict[str, torch.Tensor]:
    content = bytearray((folder / "model.safetensors").read_bytes())
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    kinds = {name: dtype for dtype, name in shapes.NAMES.items()}
    found = {}
    for name, about in header.items():
        if name != "__metadata__":
            start, end = about["data_offsets"]
            dtype = kinds[about["dtype"]]
            count = (end - start) // dtype.itemsize
            values = torch.frombuffer(content, dtype=dtype, count=count, offset=8 + size + start)
            found[name] = values.view(about["shape"])
    return found


PEERS = {"sentence-transformers": SentenceTransformers, "transformers": Transformers, "plain": Encoder}


def open_peer(wanted: str | None, *arguments):
    """The first peer that can be loaded, or the one that is asked for; why others cannot is said."""
    for name, kind in PEERS.items():
        if wanted in (None, name):
            try:
                return kind(*arguments)
            except Exception as error:
                if wanted or kind is Encoder:
                    raise
                print(f"peer.py: no {name}: {type(error).__name__}: {error}"[:300], file=sys.stderr)
    raise AssertionError("the last peer needs nothing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["dense", "sparse", "rerank"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--peer", choices=PEERS)
    parser.add_argument("--part", type=int, default=1, help="compute every so many-th text alone")
    parser.add_argument("--repeat", type=int, default=3, help="passes that are timed, after a warm-up")
    parser.add_argument("--budget", type=float, default=60, help="seconds after which no further pass begins")
    parser.add_argument("--vectors", type=Path, help="where the rows of the first texts go, for a comparison")
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
        taken, best = [], BATCHES[0]
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
