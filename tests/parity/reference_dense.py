"""Vectors of a dense model, by `sentence-transformers`."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import nn

from case_files import check_agreement, check_vectors_differ, text_records, token_counter, write_case
from reference import SENTENCE_TRANSFORMERS
from texts import texts_for


def save_model(folder: Path, model, tokenizer, modules: list[nn.Module], **options) -> None:
    """Writes a model folder as `sentence-transformers` saves it, with `modules` behind the encoder. The configuration
    and the weights are as `transformers` alone saves them, which keeps the tensor names of the class of `model`."""
    with tempfile.TemporaryDirectory() as encoder:
        model.save_pretrained(encoder)
        tokenizer.save_pretrained(encoder)
        chain = [Transformer(encoder), *modules]
        whole = SentenceTransformer(modules=chain, device="cpu", **options)
        whole.save_pretrained(str(folder), create_model_card=False)
        for name in ("config.json", "model.safetensors"):
            shutil.copy(Path(encoder) / name, folder / name)


def write_expected(
    folder: Path,
    seed: int,
    special: tuple[str, ...] = (),
    prompt_name: str | None = None,
    prompt: str | None = None,
    truncate_dim: int | None = None,
    padded: bool = True,
    reference: str = SENTENCE_TRANSFORMERS,
    prepare: Callable[[SentenceTransformer], None] = lambda model: None,
) -> None:
    """Loads the folder as any user would and writes the case with the reference's vectors.

    `prompt_name` names a prompt of the folder, `prompt` is the text of one; without either the folder's default
    applies. With `truncate_dim` vectors are cut to that width and normalized again. `padded` says whether padding
    leaves the reference's own vectors unchanged. `prepare` changes the loaded model.
    """
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    prepare(model)
    tokenizer = model[0].tokenizer
    max_tokens = model.max_seq_length
    texts = texts_for(token_counter(tokenizer), max_tokens, seed, special)
    options = {"prompt_name": prompt_name, "prompt": prompt, "truncate_dim": truncate_dim}
    vectors = encode(model, texts, padded, normalize_embeddings=truncate_dim is not None, **options)
    check_vectors_differ(folder.name, vectors)
    case = {"task": "dense", "reference": f"{reference}, float64", "max_tokens": max_tokens}
    case["bfloat16"] = cosine_in_bfloat16(model, texts, vectors, **options)
    case |= {name: value for name, value in options.items() if value is not None}
    applied = prompt or model.prompts.get(prompt_name or model.default_prompt_name, "")
    write_case(folder, case, text_records(tokenizer, texts, max_tokens, applied), {"vectors": vectors})


def encode(model: SentenceTransformer, texts: list[str], padded: bool = True, **options) -> np.ndarray:
    """Vectors `[texts, width]`, each text encoded alone and in double precision. In single precision, and in batches if
    `padded`, the reference has to agree with them."""
    in_single = model.encode(texts, batch_size=7 if padded else 1, **options)
    vectors = model.double().encode(texts, batch_size=1, **options)
    check_agreement(vectors, in_single, 1e-5)
    return vectors


def cosine_in_bfloat16(model: SentenceTransformer, texts: list[str], vectors: np.ndarray, **options) -> float:
    """The lowest cosine of the reference's own vectors in bfloat16 to those in double precision. Random weights amplify
    rounding by an amount that is a property of the model, and the runner is measured by it."""
    rounded = model.bfloat16().encode(texts, batch_size=1, **options)
    norms = np.linalg.norm(rounded, axis=1) * np.linalg.norm(vectors, axis=1)
    # A text without tokens has a vector of zeros.
    cosines = (rounded * vectors).sum(axis=1)[norms > 0] / norms[norms > 0]
    return round(float(cosines.min()), 5)
