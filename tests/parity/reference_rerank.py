"""Logits and scores of a cross-encoder, by `sentence-transformers`."""

from pathlib import Path

import numpy as np
from sentence_transformers import CrossEncoder
from torch import nn

from case_files import check_agreement, check_logits_differ, pair_records, token_counter, write_case
from reference import SENTENCE_TRANSFORMERS
from texts import pairs_for

# By how much padding and precision may change a logit.
TOLERANCE = 1e-4


def write_expected(folder: Path, seed: int) -> None:
    """Loads the folder as any user would and writes the case with the reference's logits and scores."""
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    max_tokens = model.max_length
    count = token_counter(model.tokenizer)
    pairs = pairs_for(count, max_tokens, seed)
    expected = predict(model, pairs)
    check_logits_differ(folder.name, expected["logits"])
    case = {
        "task": "rerank",
        "reference": f"{SENTENCE_TRANSFORMERS}, float64",
        "max_tokens": max_tokens,
        "activation": type(model.activation_fn).__name__,
    }
    applied = model.prompts.get(model.default_prompt_name, "")
    lengths = [count(applied + query, document) for query, document in pairs]
    records = pair_records(pairs, lengths, max_tokens)
    write_case(folder, case, records, expected)


def predict(model: CrossEncoder, pairs: list[tuple[str, str]]) -> dict[str, np.ndarray]:
    """The logits, and the scores after the model's activation; each pair alone and in double precision. In single
    precision and padded batches the reference has to agree with them."""
    in_single = model.predict(pairs, activation_fn=nn.Identity(), batch_size=7)
    model.double()
    logits = model.predict(pairs, activation_fn=nn.Identity(), batch_size=1)
    check_agreement(logits, in_single, TOLERANCE)
    return {"logits": logits, "scores": model.predict(pairs, batch_size=1)}
