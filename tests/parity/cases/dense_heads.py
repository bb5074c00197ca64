"""Dense cases of everything behind the encoder: pooling modes, dense layers, prompts, widths, static embeddings.

The encoder is a narrow BERT, since it is not the subject of these cases.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, StaticEmbedding

import tokenizer_families as family
from case_files import check_vectors_differ, edit_json, write_case, write_json
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


@cases.case("bert-prompt-weighted-mean")
def bert_prompt_weighted_mean(folder: Path) -> None:
    """The tokens behind the prompt keep their positions, which are their weights."""
    pooling = Pooling(NARROW, "weightedmean", include_prompt=False)
    prompts = {"prompts": {"query": "find: ", "passage": ""}}
    save_model(folder, bert(150, layers=2, hidden=NARROW), bert_tokenizer(), [pooling], **prompts)
    write_expected(folder, 150, prompt_name="query")


@cases.case("bert-prompt-cls")
def bert_prompt_cls(folder: Path) -> None:
    """The first token behind the prompt, beside the maximum and the last token."""
    pooling = Pooling(NARROW, ("cls", "max", "lasttoken"), include_prompt=False)
    prompts = {"prompts": {"query": "find: ", "passage": ""}}
    save_model(folder, bert(150, layers=2, hidden=NARROW), bert_tokenizer(), [pooling], **prompts)
    write_expected(folder, 150, prompt_name="query", padded=False)


@cases.case("bert-several-poolings")
def bert_several_poolings(folder: Path) -> None:
    """Several modes, whose vectors stand side by side in front of a dense layer."""
    pooling = Pooling(NARROW, ["mean_sqrt_len_tokens", "cls"])
    modules = [pooling, draw_weights(Dense(2 * NARROW, 40), 1530), Normalize()]
    save_model(folder, bert(153, layers=2, hidden=NARROW), bert_tokenizer(), modules)
    write_expected(folder, 153)


@cases.case("bert-dense-residual")
def bert_dense_residual(folder: Path) -> None:
    """Dense layers with their input added: projected to another width, and as it is."""
    projected = draw_weights(Dense(NARROW, 40, use_residual=True), 1540)
    modules = [Pooling(NARROW, "mean"), projected, draw_weights(Dense(40, 40, use_residual=True), 1541), Normalize()]
    save_model(folder, bert(154, layers=2, hidden=NARROW), bert_tokenizer(), modules)
    write_expected(folder, 154)


@cases.case("bert-dense-tokens")
def bert_dense_tokens(folder: Path) -> None:
    """A dense layer and a normalization over the tokens; behind the pooling, one that reads the tokens and one that
    writes a feature that nobody reads have no effect."""
    tokens = draw_weights(Dense(NARROW, 40, module_input_name="token_embeddings"), 1550)
    late = draw_weights(Dense(40, 40, module_input_name="token_embeddings"), 1551)
    unread = draw_weights(Dense(40, 40, module_output_name="projected"), 1552)
    normalize = Normalize(module_input_name="token_embeddings")
    modules = [tokens, normalize, Pooling(40, "mean"), late, unread]
    save_model(folder, bert(155, layers=2, hidden=NARROW), bert_tokenizer(), modules)
    write_expected(folder, 155)


@cases.case("static-model2vec")
def static_model2vec(folder: Path) -> None:
    """Model2Vec's layout: token ids share rows, each id has a factor, and the module's path is a dot."""
    tokenizer = family.word_piece()
    generator = np.random.default_rng(129)
    ids, rows = tokenizer.get_vocab_size(), 100
    tensors = {
        "embeddings": generator.standard_normal((rows, HIDDEN)).astype(np.float32),
        "mapping": generator.integers(0, rows, ids).astype(np.int64),
        "weights": generator.uniform(0.2, 2.0, ids).astype(np.float32),
    }
    save_file(tensors, folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    classes = [("StaticEmbedding", "."), ("Normalize", "./1_Normalize/")]
    modules = [
        {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{name}"}
        for idx, (name, path) in enumerate(classes)
    ]
    write_json(folder / "modules.json", modules)
    write_static_case(folder, 129, [])


@cases.case("static-embedding")
def static_embedding(folder: Path) -> None:
    """No special tokens and no limit; a text without tokens is the zero vector."""
    module = draw_static_weights(StaticEmbedding(family.word_piece(), embedding_dim=HIDDEN), 128)
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(folder), create_model_card=False)
    write_static_case(folder, 128, ["", "\u200b"])


def write_static_case(folder: Path, seed: int, empty: list[str]) -> None:
    """Writes the case of a static embedding; `empty` are texts without tokens, whose vectors are zero."""
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def count(text: str) -> int:
        return len(model[0].tokenizer.encode(text, add_special_tokens=False).ids)

    texts = [*texts_for(count, LONG, seed), *empty]
    vectors = model.double().encode(texts, batch_size=1)
    assert not vectors[len(vectors) - len(empty) :].any()
    case = {"task": "dense", "reference": f"{SENTENCE_TRANSFORMERS}, float64", "max_tokens": None}
    records = [{"text": text, "tokens": count(text), "lost": 0} for text in texts]
    check_vectors_differ(folder.name, vectors[: len(vectors) - len(empty)])
    write_case(folder, case, records, {"vectors": vectors})


def draw_static_weights(module: StaticEmbedding, seed: int) -> StaticEmbedding:
    values = np.random.default_rng(seed).standard_normal((module.num_embeddings, module.embedding_dim))
    module.embedding.weight.data = torch.from_numpy(values.astype(np.float32))
    return module
