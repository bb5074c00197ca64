"""Dense cases of everything behind the encoder: pooling modes, dense layers, prompts, widths, static embeddings.

The encoder is a narrow BERT, since it is not the subject of these cases.
"""

from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, StaticEmbedding

import tokenizer_families as family
from case_files import check_vectors_differ, edit_json, write_case
from random_weights import draw_weights
from reference import SENTENCE_TRANSFORMERS
from reference_dense import save_model, write_expected
from registry import Cases
from texts import texts_for

from .dense_bert import bert, bert_tokenizer
from .sizes import HIDDEN, LONG

NARROW = 48

cases = Cases()


@cases.case("bert-max")
def bert_max(folder: Path) -> None:
    model = bert(121, layers=2, hidden=NARROW, hidden_act="relu")
    save_model(folder, model, bert_tokenizer(), [Pooling(NARROW, "max")])
    write_expected(folder, 121)


@cases.case("bert-weighted-mean")
def bert_weighted_mean(folder: Path) -> None:
    model = bert(143, layers=2, hidden=NARROW, hidden_act="gelu_new")
    save_model(folder, model, bert_tokenizer(), [Pooling(NARROW, "weightedmean")])
    write_expected(folder, 143)


@cases.case("bert-last-token")
def bert_last_token(folder: Path) -> None:
    """Left padding, which shifts the reference's positions: expected are its vectors of each text alone."""
    model = bert(123, layers=2, hidden=NARROW, hidden_act="gelu_pytorch_tanh")
    save_model(folder, model, bert_tokenizer(padding_side="left"), [Pooling(NARROW, "lasttoken")])
    write_expected(folder, 123, padded=False)


@cases.case("bert-dense-tanh")
def bert_dense_tanh(folder: Path) -> None:
    """Like LaBSE, with another width after the dense layer."""
    dense = draw_weights(Dense(NARROW, 40), 1240)
    modules = [Pooling(NARROW, "cls"), dense, Normalize()]
    save_model(folder, bert(124, layers=2, hidden=NARROW), bert_tokenizer(), modules)
    write_expected(folder, 124)


@cases.case("bert-truncated-dimensions")
def bert_truncated_dimensions(folder: Path) -> None:
    """A matryoshka width: cut after the whole chain and normalized again."""
    save_model(folder, bert(125, layers=2, hidden=NARROW), bert_tokenizer(), [Pooling(NARROW, "mean"), Normalize()])
    write_expected(folder, 125, truncate_dim=24)


@cases.case("bert-default-prompt")
def bert_default_prompt(folder: Path) -> None:
    """A default prompt."""
    prompts = {"prompts": {"similarity": "find alike: "}, "default_prompt_name": "similarity"}
    save_model(folder, bert(126, layers=2, hidden=NARROW), bert_tokenizer(), [Pooling(NARROW, "mean")], **prompts)
    # Versions before 5 omit the empty prompts, which otherwise count as named.
    edit_json(folder / "config_sentence_transformers.json", lambda config: config.update(prompts))
    write_expected(folder, 126)


@cases.case("bert-prompt-not-pooled")
def bert_prompt_not_pooled(folder: Path) -> None:
    """Like INSTRUCTOR: the prompt takes part in attention and not in the mean."""
    pooling = Pooling(NARROW, "mean", include_prompt=False)
    prompts = {"prompts": {"query": "Represent the question for retrieval: ", "passage": ""}}
    save_model(folder, bert(150, layers=2, hidden=NARROW), bert_tokenizer(), [pooling, Normalize()], **prompts)
    write_expected(folder, 150, prompt_name="query")


@cases.case("static-embedding")
def static_embedding(folder: Path) -> None:
    """No special tokens and no limit; a text without tokens is the zero vector."""
    module = draw_static_weights(StaticEmbedding(family.word_piece(), embedding_dim=HIDDEN), 128)
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(folder), create_model_card=False)
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def count(text: str) -> int:
        return len(model[0].tokenizer.encode(text, add_special_tokens=False).ids)

    texts = [*texts_for(count, LONG, 128), "", "\u200b"]
    vectors = model.double().encode(texts, batch_size=1)
    assert not vectors[-2:].any()
    case = {"task": "dense", "reference": f"{SENTENCE_TRANSFORMERS}, float64", "max_tokens": None}
    records = [{"text": text, "tokens": count(text), "lost": 0} for text in texts]
    check_vectors_differ(folder.name, vectors[:-2])
    write_case(folder, case, records, {"vectors": vectors})


def draw_static_weights(module: StaticEmbedding, seed: int) -> StaticEmbedding:
    values = np.random.default_rng(seed).standard_normal((module.num_embeddings, module.embedding_dim))
    module.embedding.weight.data = torch.from_numpy(values.astype(np.float32))
    return module
