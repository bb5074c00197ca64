"""The files of a case's folder that are not the model: the case, its inputs, and the reference's outputs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

LIMIT = 1_000_000  # bytes of a case's folder


def write_json(file: Path, content) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def edit_json(file: Path, edit: Callable[[dict], None]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    edit(content)
    write_json(file, content)


def token_counter(tokenizer) -> Callable[..., int]:
    """Counts the tokens of a text or a pair, special ones included, without truncation."""
    return lambda *texts: len(tokenizer(*texts, truncation=False)["input_ids"])


def text_records(tokenizer, texts: list[str], max_tokens: int, prompt: str = "") -> list[dict]:
    """A line of `texts.jsonl` per text. The prompt counts among the tokens and is not part of the text."""
    count = token_counter(tokenizer)
    return [{"text": text, **truncation(count(prompt + text), max_tokens)} for text in texts]


def pair_records(pairs: list[tuple[str, str]], lengths: list[int], max_tokens: int) -> list[dict]:
    """A line of `texts.jsonl` per pair of query and document, of these lengths in tokens."""
    return [
        {"query": query, "document": document, **truncation(length, max_tokens)}
        for (query, document), length in zip(pairs, lengths, strict=True)
    ]


def truncation(length: int, max_tokens: int) -> dict:
    return {"tokens": min(length, max_tokens), "lost": max(length - max_tokens, 0)}


def write_case(folder: Path, case: dict, records: list[dict], expected: dict[str, np.ndarray]) -> None:
    """Writes `case.json`, `texts.jsonl` and `expected.safetensors` beside the model."""
    (folder / "README.md").unlink(missing_ok=True)
    write_json(folder / "case.json", case)
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (folder / "texts.jsonl").write_text("".join(lines), encoding="utf-8")
    assert all(np.isfinite(values).all() for values in expected.values()), f"{folder.name}: not finite"
    dtypes = {name: np.float32 if values.dtype == np.float64 else values.dtype for name, values in expected.items()}
    tensors = {name: np.ascontiguousarray(values, dtype=dtypes[name]) for name, values in expected.items()}
    save_file(tensors, folder / "expected.safetensors")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert size <= LIMIT, f"{folder.name}: {size} bytes, the limit is {LIMIT}"


def check_agreement(outputs: np.ndarray, in_single: np.ndarray, tolerance: float) -> None:
    """The reference must give the same in double precision as in single precision and padded batches."""
    difference = np.abs(outputs - in_single).max()
    assert difference < tolerance, f"padding and precision change the reference by {difference}"


def check_vectors_differ(name: str, vectors: np.ndarray) -> None:
    """Prints how alike the vectors of different texts are: if all were alike, mistakes would not show."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    median, high = np.median(cosines), np.quantile(cosines, 0.95)
    print(f"{name}: {len(unit)} rows, cosines median {median:.3f}, 95th percentile {high:.3f}")
    assert high < 0.985, f"{name}: the vectors are too much alike, try another seed"


def check_logits_differ(name: str, logits: np.ndarray) -> None:
    """Prints how far the logits of different pairs are apart: if all were alike, mistakes would not show."""
    print(f"{name}: {len(logits)} pairs, logits {logits.min():.2f} to {logits.max():.2f}, deviation {logits.std():.2f}")
    assert logits.std() > 0.2, f"{name}: all logits are alike, try another seed"
