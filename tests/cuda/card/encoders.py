"""Encoders for the peer: batches by length, pooling, and BERT and Qwen3 with PyTorch's own operations."""

import json
import struct
from pathlib import Path

import torch
from torch.nn import functional

from model_folder import DTYPES
from texts import token_ids


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
    """SPLADE weights `[rows, vocabulary]`: the maximum over the tokens of log1p(relu)."""
    weights = torch.log1p(functional.relu(logits)) * mask[..., None].to(logits.dtype)
    return weights.amax(1).to_sparse()


def pooling_of(folder: Path) -> str:
    """The pooling mode of a model folder; empty if it has none."""
    file = folder / "1_Pooling/config.json"
    if not file.exists():
        return ""
    flags = json.loads(file.read_text())
    names = {"cls_token": "cls", "lasttoken": "lasttoken", "mean_tokens": "mean"}
    return next(name for flag, name in names.items() if flags[f"pooling_mode_{flag}"])


class SortedBatches:
    """Batches of texts of similar length, each padded to its longest. The order of the caller is not restored."""

    def run(self, rows: list, batch: int) -> list:
        rows = sorted(rows, key=self.length, reverse=True)
        outputs = [self.batch(rows[start : start + batch]) for start in range(0, len(rows), batch)]
        return [output.cpu() for output in outputs]


class PlainEncoder(SortedBatches):
    """BERT and Qwen3 with PyTorch's own operations."""

    def __init__(self, task: str, folder: Path, device: str, dtype: torch.dtype):
        self.config = json.loads((folder / "config.json").read_text())
        self.entries = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        self.weights = {name: tensor.to(device, dtype) for name, tensor in read_safetensors(folder).items()}
        self.task, self.device, self.pooling = task, device, pooling_of(folder)
        self.is_qwen = self.config["model_type"] == "qwen3"
        self.heads = self.config["num_attention_heads"]
        self.name = f"PyTorch {torch.__version__}"

    def prepare(self, texts) -> list[tuple[list[int], int]]:
        """The token ids of every text, and the index at which its second segment begins."""
        if self.is_qwen:
            word = lambda index, text: list(text) if index == 0 else [f"Ġ{text}"]
            parts = lambda text: [entry for index, part in enumerate(text.split()) for entry in word(index, part)]
            ids_of = lambda text: [self.entries[entry] for entry in parts(text)]
            return [(ids_of(text) + [0], 0) for text in texts]
        ids_of = lambda text: token_ids(text, self.entries)
        start, end = self.entries["[CLS]"], self.entries["[SEP]"]
        if self.task == "rerank":
            first = [[start, *ids_of(query), end] for query, _ in texts]
            return [(before + ids_of(text) + [end], len(before)) for before, (_, text) in zip(first, texts)]
        rows = [[start, *ids_of(text), end] for text in texts]
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
        attended = functional.scaled_dot_product_attention(
            rotate(query),
            rotate(key),
            value,
            attn_mask=mask,
            is_causal=mask is None and self.is_qwen,
            enable_gqa=heads != kv_heads,
        )
        return attended.transpose(1, 2).reshape(rows, tokens, -1)

    def batch(self, rows: list) -> torch.Tensor:
        longest = max(map(self.length, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in rows])
        lengths = torch.tensor([len(row) for row, _ in rows])
        second = torch.tensor([begin for _, begin in rows])
        ids, lengths, second = (x.to(self.device) for x in (ids, lengths, second))
        position = torch.arange(longest, device=self.device)
        mask = position < lengths[:, None]
        # Without padding there is no mask, which lets the fastest kernel run.
        full = bool((torch.tensor([len(row) for row, _ in rows]) == longest).all())
        if self.is_qwen:
            return pool(self.qwen(ids, position), mask.int(), self.pooling)
        types = ((position >= second[:, None]) & mask).long()
        prefix = "" if self.task == "dense" else "bert."
        hidden = self.bert(prefix, ids, types, position, None if full else mask[:, None, None])
        if self.task == "dense":
            return pool(hidden, mask.int(), self.pooling)
        if self.task == "rerank":
            return self.linear("classifier", torch.tanh(self.linear("bert.pooler.dense", hidden[:, 0])))[:, 0].float()
        head = "cls.predictions"
        hidden = functional.gelu(self.linear(f"{head}.transform.dense", hidden))
        hidden = self.norm(f"{head}.transform.LayerNorm", hidden)
        words = self.weights["bert.embeddings.word_embeddings.weight"]
        return splade(functional.linear(hidden, words, self.weights[f"{head}.bias"]), mask)

    def bert(self, prefix: str, ids, types, position, mask) -> torch.Tensor:
        module = f"{prefix}embeddings"
        table = lambda name: self.weights[f"{module}.{name}_embeddings.weight"]
        look_up = lambda name, indices: functional.embedding(indices, table(name))
        x = look_up("word", ids) + look_up("position", position) + look_up("token_type", types)
        x = self.norm(f"{module}.LayerNorm", x)
        for layer in range(self.config["num_hidden_layers"]):
            module = f"{prefix}encoder.layer.{layer}"
            parts = (self.linear(f"{module}.attention.self.{name}", x) for name in ("query", "key", "value"))
            attended = self.attend(*parts, mask, self.heads, self.heads)
            x = x + self.linear(f"{module}.attention.output.dense", attended)
            x = self.norm(f"{module}.attention.output.LayerNorm", x)
            inner = functional.gelu(self.linear(f"{module}.intermediate.dense", x))
            x = self.norm(f"{module}.output.LayerNorm", x + self.linear(f"{module}.output.dense", inner))
        return x

    def qwen(self, ids, position) -> torch.Tensor:
        """Padding is behind the texts, where causal attention does not reach it."""
        width, kv_heads = self.config["head_dim"], self.config["num_key_value_heads"]
        steps = torch.arange(0, width, 2, device=self.device) / width
        angles = position[:, None] / self.config["rope_theta"] ** steps
        x = functional.embedding(ids, self.weights["embed_tokens.weight"])
        cos, sin = (torch.cat([part, part], 1).to(x.dtype) for part in (angles.cos(), angles.sin()))

        def rotate(heads: torch.Tensor) -> torch.Tensor:
            first, second = heads.chunk(2, -1)
            return heads * cos + torch.cat([-second, first], -1) * sin

        for layer in range(self.config["num_hidden_layers"]):
            module = f"layers.{layer}"
            normed = self.norm(f"{module}.input_layernorm", x)
            query, key, value = (self.linear(f"{module}.self_attn.{name}_proj", normed) for name in "qkv")
            query, key = (
                self.norm(f"{module}.self_attn.{name}_norm", part.unflatten(-1, (-1, width))).flatten(-2)
                for name, part in (("q", query), ("k", key))
            )
            attended = self.attend(query, key, value, None, self.heads, kv_heads, rotate)
            x = x + self.linear(f"{module}.self_attn.o_proj", attended)
            normed = self.norm(f"{module}.post_attention_layernorm", x)
            gate = functional.silu(self.linear(f"{module}.mlp.gate_proj", normed))
            x = x + self.linear(f"{module}.mlp.down_proj", gate * self.linear(f"{module}.mlp.up_proj", normed))
        return self.norm("norm", x)


def read_safetensors(folder: Path) -> dict[str, torch.Tensor]:
    content = bytearray((folder / "model.safetensors").read_bytes())
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    dtypes = {name: dtype for dtype, name in DTYPES.items()}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            dtype = dtypes[entry["dtype"]]
            count = (end - start) // dtype.itemsize
            values = torch.frombuffer(content, dtype=dtype, count=count, offset=8 + size + start)
            tensors[name] = values.view(entry["shape"])
    return tensors
