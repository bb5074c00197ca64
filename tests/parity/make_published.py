"""Makes the cases of published models, which `scripts/models.sh` lays out; a case has their name and no weights.

    "$(../../scripts/python-env.sh parity)" make_published.py [CASE...]
"""

import subprocess
from pathlib import Path

import numpy as np
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from tokenizers import Tokenizer

import make_dense
import make_rerank
import make_sparse
from common import SENTENCE_TRANSFORMERS, Cases, say_spread, text_records, token_counter, write_case
from texts import pairs_for, texts_for

SCRIPTS = Path(__file__).parents[2] / "scripts"

cases = Cases()


def model_folder(name: str) -> str:
    return subprocess.run([SCRIPTS / "models.sh", name], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def about(task: str, name: str, max_tokens: int) -> dict:
    reference = f"{SENTENCE_TRANSFORMERS}, float64"
    return {"task": task, "model": name, "reference": reference, "max_tokens": max_tokens}


def expect_tokens_of_the_file(folder: str, tokenizer, texts: list[str]) -> None:
    """`transformers` builds some tokenizers anew from the vocabulary; here that has to give what the file gives."""
    of_the_file = Tokenizer.from_file(f"{folder}/tokenizer.json")
    of_the_file.no_padding()
    of_the_file.no_truncation()
    for text in texts:
        assert tokenizer(text, truncation=False)["input_ids"] == of_the_file.encode(text).ids, f"other tokens: {text!r}"


def dense(folder: Path, seed: int) -> None:
    source = model_folder(folder.name)
    model = SentenceTransformer(source, device="cpu", local_files_only=True)
    tokenizer, max_tokens = model[0].tokenizer, model.max_seq_length
    texts = texts_for(token_counter(tokenizer), max_tokens, seed)
    expect_tokens_of_the_file(source, tokenizer, texts)
    vectors = make_dense.encode(model, texts)
    say_spread(folder.name, vectors)
    records = text_records(tokenizer, texts, max_tokens)
    case = about("dense", folder.name, max_tokens)
    case["bfloat16"] = make_dense.cosine_in_bfloat16(model, texts, vectors)
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
    """Only the weights that are not zero: those of text i are at offsets[i] to offsets[i + 1]."""
    source = model_folder(folder.name)
    model = SparseEncoder(source, device="cpu", local_files_only=True)
    tokenizer, max_tokens = model[0].tokenizer, model.max_seq_length
    texts = texts_for(token_counter(tokenizer), max_tokens, 404)
    expect_tokens_of_the_file(source, tokenizer, texts)
    weights = make_sparse.encode(model, texts)
    say_spread(folder.name, weights)
    rows, indices = np.nonzero(weights)
    expected = {
        "indices": indices.astype(np.int64),
        "values": weights[rows, indices].astype(np.float32),
        "offsets": np.searchsorted(rows, np.arange(len(texts) + 1)).astype(np.int64),
    }
    records = text_records(tokenizer, texts, max_tokens)
    write_case(folder, about("sparse", folder.name, max_tokens), records, expected)


@cases.case("ms-marco-MiniLM-L12-v2-dq")
def ms_marco_minilm(folder: Path) -> None:
    source = model_folder(folder.name)
    model = CrossEncoder(source, device="cpu", local_files_only=True)
    count, max_tokens = token_counter(model.tokenizer), model.max_length
    pairs = pairs_for(count, max_tokens, 405)
    expect_tokens_of_the_file(source, model.tokenizer, [text for pair in pairs for text in pair])
    expected = make_rerank.predict(model, pairs)
    make_rerank.say_spread(folder.name, expected["logits"])
    case = about("rerank", folder.name, max_tokens) | {"activation": type(model.activation_fn).__name__}
    records = make_rerank.pair_records(pairs, [count(*pair) for pair in pairs], max_tokens)
    write_case(folder, case, records, expected)


if __name__ == "__main__":
    cases.main()
