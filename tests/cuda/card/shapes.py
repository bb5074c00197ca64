"""The shapes of known models: sizes, matrix products, operations per token."""

from dataclasses import dataclass, replace

from vocabularies import BERT_ENTRIES

LONGEST = 512  # tokens of a text


@dataclass(frozen=True)
class Shape:
    """The sizes of a model. `family` is bert or qwen3, `task` is dense, sparse or rerank."""

    family: str
    task: str
    layers: int
    hidden: int
    heads: int
    inner: int
    pooling: str = "mean"
    kv_heads: int = 0
    head: int = 0

    @property
    def width(self) -> int:
        return self.head or self.hidden // self.heads

    def products(self) -> list[tuple[int, int, int]]:
        """`(inputs, outputs, count)` of every weight that each token is multiplied with."""
        queries, keys = self.heads * self.width, (self.kv_heads or self.heads) * self.width
        gates = 2 if self.family == "qwen3" else 1
        shapes = [
            (self.hidden, queries + 2 * keys, self.layers),  # query, key and value at once
            (queries, self.hidden, self.layers),
            (self.hidden, gates * self.inner, self.layers),
            (self.inner, self.hidden, self.layers),
        ]
        if self.task == "sparse":
            shapes += [(self.hidden, self.hidden, 1), (self.hidden, BERT_ENTRIES, 1)]
        return shapes

    def flop_per_token(self) -> int:
        """Operations of the products with weights, without those inside attention, as in tests/bench/flop.py."""
        return sum(2 * inputs * outputs * times for inputs, outputs, times in self.products())

    def tiny(self) -> "Shape":
        """A small model of the same kind, for a CPU."""
        head = 32 if self.head else 0
        return replace(self, layers=2, hidden=64, heads=4, inner=128, kv_heads=self.kv_heads and 2, head=head)


SHAPES = {
    "bert-large": Shape("bert", "dense", 24, 1024, 16, 4096),
    "bert-base": Shape("bert", "dense", 12, 768, 12, 3072),
    "bge-small": Shape("bert", "dense", 12, 384, 12, 1536, pooling="cls"),
    "minilm-l6": Shape("bert", "dense", 6, 384, 12, 1536),
    "splade-base": Shape("bert", "sparse", 12, 768, 12, 3072),
    "cross-minilm-l12": Shape("bert", "rerank", 12, 384, 12, 1536),
    "qwen3-0.6b": Shape("qwen3", "dense", 28, 1024, 16, 3072, pooling="lasttoken", kv_heads=8, head=128),
}
