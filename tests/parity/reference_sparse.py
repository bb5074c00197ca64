"""SPLADE weights of a masked language model, by `sentence-transformers`."""

from pathlib import Path

import numpy as np
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import SpladePooling

from case_files import check_agreement, check_vectors_differ, text_records, token_counter, write_case
from reference import SENTENCE_TRANSFORMERS
from texts import texts_for


def write_expected(folder: Path, seed: int, max_tokens: int) -> None:
    """Loads the folder as any user would and writes the case with the reference's weights."""
    model = SparseEncoder(str(folder), device="cpu", local_files_only=True)
    tokenizer = model[0].tokenizer
    texts = texts_for(token_counter(tokenizer), max_tokens, seed)
    weights = encode(model, texts)
    density = (weights > 1e-3).mean()
    assert 0.05 < density < 0.6, f"{folder.name}: {density:.0%} of the vocabulary has a weight"
    check_vectors_differ(folder.name, weights)
    case = {"task": "sparse", "reference": f"{SENTENCE_TRANSFORMERS}, float64", "max_tokens": max_tokens}
    applied = model.prompts.get(model.default_prompt_name, "")
    write_case(folder, case, text_records(tokenizer, texts, max_tokens, applied), {"weights": weights})


def encode(model: SparseEncoder, texts: list[str]) -> np.ndarray:
    """Weights `[texts, vocabulary]`, each text encoded alone and in double precision. In single precision and padded
    batches the reference has to agree with them."""
    # Without the model type in `config_sentence_transformers.json` an untrained module would follow.
    assert isinstance(model[-1], SpladePooling), f"not a SPLADE model: {model}"
    options = {"convert_to_tensor": True, "convert_to_sparse_tensor": False}
    in_single = model.encode(texts, batch_size=7, **options).numpy()
    weights = model.double().encode(texts, batch_size=1, **options).numpy()
    check_agreement(weights, in_single, 5e-5)
    return weights
