"""Cases of published models, which `scripts/models.sh` provides. A case has the name of the model and no weights."""

import subprocess
from pathlib import Path

import numpy as np
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from tokenizers import Tokenizer

import reference_dense
import reference_rerank
import reference_sparse
from case_files import (
    check_logits_differ,
    check_vectors_differ,
    pair_records,
    text_records,
    token_counter,
    write_case,
)
from reference import SENTENCE_TRANSFORMERS
from registry import Cases
from texts import pairs_for, texts_for

SCRIPTS = Path(__file__).parents[3] / "scripts"

cases = Cases()


def model_folder(name: str) -> str:
    return subprocess.run([SCRIPTS / "models.sh", name], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def case_of(task: str, name: str, max_tokens: int) -> dict:
    reference = f"{SENTENCE_TRANSFORMERS}, float64"
    return {"task": task, "model": name, "reference": reference, "max_tokens": max_tokens}


def check_tokens(folder: str, tokenizer, texts: list[str]) -> None:
    """`transformers` builds some tokenizers anew from the vocabulary: the tokens have to be those of
    `tokenizer.json`."""
    from_file = Tokenizer.from_file(f"{folder}/tokenizer.json")
    from_file.no_padding()
    from_file.no_truncation()
    for text in texts:
        tokens = tokenizer(text, truncation=False)["input_ids"]
        assert tokens == from_file.encode(text).ids, f"other tokens than tokenizer.json: {text!r}"


def dense(folder: Path, seed: int) -> None:
    source = model_folder(folder.name)
    model = SentenceTransformer(source, device="cpu", local_files_only=True)
    tokenizer, max_tokens = model[0].tokenizer, model.max_seq_length
    texts = texts_for(token_counter(tokenizer), max_tokens, seed)
    check_tokens(source, tokenizer, texts)
    vectors = reference_dense.encode(model, texts)
    check_vectors_differ(folder.name, vectors)
    records = text_records(tokenizer, texts, max_tokens)
    case = case_of("dense", folder.name, max_tokens)
    case["bfloat16"] = reference_dense.cosine_in_bfloat16(model, texts, vectors)
    write_case(folder, case, records, {"vectors": vectors})


@cases.case("all-MiniLM-L6-v2")
def all_minilm(folder: Path) -> None:
    dense(folder, 401)


@cases.case("bge-small-en-v1.5-dq")
def bge_small(folder: Path) -> None:
    dense(folder, 402)


@cases.case("paraphrase-MiniLM-L3-v2")
def paraphrase_minilm(folder: Path) -> None:
    dense(folder, 403)


@cases.case("splade-tiny")
def splade_tiny(folder: Path) -> None:
    """Only the weights above zero: those of text i are at offsets[i] to offsets[i + 1]."""
    source = model_folder(folder.name)
    model = SparseEncoder(source, device="cpu", local_files_only=True)
    tokenizer, max_tokens = model[0].tokenizer, model.max_seq_length
    texts = texts_for(token_counter(tokenizer), max_tokens, 404)
    check_tokens(source, tokenizer, texts)
    weights = reference_sparse.encode(model, texts)
    check_vectors_differ(folder.name, weights)
    rows, indices = np.nonzero(weights)
    expected = {
        "indices": indices.astype(np.int64),
        "values": weights[rows, indices].astype(np.float32),
        "offsets": np.searchsorted(rows, np.arange(len(texts) + 1)).astype(np.int64),
    }
    records = text_records(tokenizer, texts, max_tokens)
    write_case(folder, case_of("sparse", folder.name, max_tokens), records, expected)


@cases.case("ms-marco-MiniLM-L12-v2-dq")
def ms_marco_minilm(folder: Path) -> None:
    source = model_folder(folder.name)
    model = CrossEncoder(source, device="cpu", local_files_only=True)
    count, max_tokens = token_counter(model.tokenizer), model.max_length
    pairs = pairs_for(count, max_tokens, 405)
    check_tokens(source, model.tokenizer, [text for pair in pairs for text in pair])
    expected = reference_rerank.predict(model, pairs)
    check_logits_differ(folder.name, expected["logits"])
    case = case_of("rerank", folder.name, max_tokens) | {"activation": type(model.activation_fn).__name__}
    records = pair_records(pairs, [count(*pair) for pair in pairs], max_tokens)
    write_case(folder, case, records, expected)
