"""Makes the sparse cases: small random masked language models, and the SPLADE weights that the reference gives.

    "$(../../scripts/python-env.sh parity)" make_sparse.py [CASE...]
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

import tokenizer_families as family
from common import (
    EPSILON,
    SENTENCE_TRANSFORMERS,
    Cases,
    say_spread,
    shape,
    text_records,
    token_counter,
    write_case,
    write_json,
)
from texts import texts_for

HIDDEN = 64
HEADS = 4
MAX_TOKENS = 96

cases = Cases()


def finish(folder: Path, seed: int) -> None:
    """Reads the folder back as any user would and writes what the reference makes of the texts."""
    model = SparseEncoder(str(folder), device="cpu", local_files_only=True)
    tokenizer = model[0].tokenizer
    texts = texts_for(token_counter(tokenizer), MAX_TOKENS, seed)
    weights = encode(model, texts)
    density = (weights > 1e-3).mean()
    assert 0.05 < density < 0.6, f"{folder.name}: {density:.0%} of the vocabulary has a weight"
    say_spread(folder.name, weights)
    case = {"task": "sparse", "reference": f"{SENTENCE_TRANSFORMERS}, float64", "max_tokens": MAX_TOKENS}
    write_case(folder, case, text_records(tokenizer, texts, MAX_TOKENS), {"weights": weights})


def encode(model: SparseEncoder, texts: list[str]) -> np.ndarray:
    """Weights of the whole vocabulary, each text encoded alone and in double precision. In single precision and in
    padded batches the reference has to agree with that."""
    # Without its kind in `config_sentence_transformers.json` a module that has no weights yet would follow.
    assert isinstance(model[-1], SpladePooling), f"not a SPLADE model: {model}"
    options = {"convert_to_tensor": True, "convert_to_sparse_tensor": False}
    in_single = model.encode(texts, batch_size=7, **options).numpy()
    weights = model.double().encode(texts, batch_size=1, **options).numpy()
    difference = np.abs(weights - in_single).max()
    assert difference < 5e-5, f"padding and precision change the reference by {difference}"
    return weights


def lower(bias: torch.nn.Parameter, by: float) -> None:
    """Takes most of the vocabulary below zero."""
    bias.data -= by


def bert(seed: int, tied: bool) -> BertForMaskedLM:
    config = BertConfig(
        vocab_size=family.VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=80,
        max_position_embeddings=MAX_TOKENS,
        layer_norm_eps=EPSILON,
        tie_word_embeddings=tied,
    )
    return shape(BertForMaskedLM(config), seed)


@cases.case("bert-mlm-untied")
def bert_mlm_untied(folder: Path) -> None:
    """A decoder of its own, whose bias is not `cls.predictions.bias`, as `sentence-transformers` saves it."""
    model = bert(201, tied=False)
    lower(model.cls.predictions.decoder.bias, 3.0)
    with tempfile.TemporaryDirectory() as encoder:
        model.save_pretrained(encoder)
        family.wrap(family.word_piece(), MAX_TOKENS, segments=True).save_pretrained(encoder)
        modules = [Transformer(encoder, transformer_task="fill-mask"), SpladePooling("max")]
        SparseEncoder(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
        for name in ("config.json", "model.safetensors"):
            shutil.copy(Path(encoder) / name, folder / name)
    finish(folder, 201)


@cases.case("bert-mlm-tied")
def bert_mlm_tied(folder: Path) -> None:
    """The decoder is the word embeddings, its bias `cls.predictions.bias`; a bare folder without `modules.json`."""
    model = bert(202, tied=True)
    lower(model.cls.predictions.bias, 12.0)
    model.save_pretrained(folder)
    family.wrap(family.word_piece(), MAX_TOKENS, segments=True).save_pretrained(folder)
    finish(folder, 202)


@cases.case("distilbert-mlm")
def distilbert_mlm(folder: Path) -> None:
    """The older form of `modules.json`."""
    config = DistilBertConfig(
        vocab_size=family.VOCABULARY,
        dim=HIDDEN,
        n_layers=2,
        n_heads=HEADS,
        hidden_dim=80,
        max_position_embeddings=MAX_TOKENS,
    )
    model = shape(DistilBertForMaskedLM(config), 203)
    lower(model.vocab_projector.bias, 9.0)
    model.save_pretrained(folder)
    family.wrap(family.word_piece(), MAX_TOKENS).save_pretrained(folder)
    kinds = {"": "MLMTransformer", "1_SpladePooling": "SpladePooling"}
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.sparse_encoder.models.{kind}"}
        for index, (path, kind) in enumerate(kinds.items())
    ]
    write_json(folder / "modules.json", modules)
    (folder / "1_SpladePooling").mkdir()
    pooling = {"pooling_strategy": "max", "activation_function": "relu", "word_embedding_dimension": family.VOCABULARY}
    write_json(folder / "1_SpladePooling" / "config.json", pooling)
    write_json(folder / "config_sentence_transformers.json", {"model_type": "SparseEncoder", "prompts": {}})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})
    finish(folder, 203)


if __name__ == "__main__":
    cases.main()
