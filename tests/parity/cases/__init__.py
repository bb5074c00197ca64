"""All cases: small random models of every architecture and head, and published models."""

from registry import Cases

from . import dense_bert, dense_decoders, dense_heads, dense_rotary, published, rerank, rerank_qwen3, sparse

GROUPS = (dense_bert, dense_rotary, dense_decoders, dense_heads, sparse, rerank, rerank_qwen3, published)
CASES = Cases({name: make for group in GROUPS for name, make in group.cases.items()})
