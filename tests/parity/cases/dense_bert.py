"""Dense cases of BERT and the architectures with its layers: RoBERTa, XLM-RoBERTa, DistilBERT, MPNet, JinaBERT."""

from pathlib import Path

from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

import reference_jina_bert as jina
import tokenizer_families as family
from random_weights import draw_weights
from reference_dense import save_model, write_expected
from registry import Cases
from vocabularies import VOCABULARY

from .sizes import EPSILON, HIDDEN, LONG, MAX_TOKENS, bert_options, distilbert_options, roberta_options

cases = Cases()


def bert(seed: int, layers: int = 3, hidden: int = HIDDEN, **options) -> BertModel:
    config = BertConfig(**bert_options(layers, hidden), **options)
    return draw_weights(BertModel(config, add_pooling_layer=False), seed)


def bert_tokenizer(**options):
    return family.wrap(family.word_piece(), MAX_TOKENS, segments=True, **options)


@cases.case("bert-cls")
def bert_cls(folder: Path) -> None:
    save_model(folder, bert(101), bert_tokenizer(), [Pooling(HIDDEN, "cls"), Normalize()])
    write_expected(folder, 101, special=("[SEP]", "[PAD]", "[MASK]"))


@cases.case("bert-mean")
def bert_mean(folder: Path) -> None:
    """Not normalized. `tokenizer.json` has a padding and a truncation that do not apply."""
    tokenizer = bert_tokenizer()
    tokenizer.backend_tokenizer.enable_padding(length=48)
    tokenizer.backend_tokenizer.enable_truncation(32)
    save_model(folder, bert(141), tokenizer, [Pooling(HIDDEN, "mean")])
    write_expected(folder, 141)


@cases.case("roberta-mean")
def roberta_mean(folder: Path) -> None:
    model = RobertaModel(RobertaConfig(**roberta_options(3)), add_pooling_layer=False)
    tokenizer = family.wrap(family.roberta(), MAX_TOKENS)
    save_model(folder, draw_weights(model, 148), tokenizer, [Pooling(HIDDEN, "mean"), Normalize()])
    write_expected(folder, 148, special=("</s>", "<pad>", "<mask>"))


@cases.case("distilbert-mean")
def distilbert_mean(folder: Path) -> None:
    config = DistilBertConfig(**distilbert_options(3))
    tokenizer = family.wrap(family.word_piece(lowercase=False), MAX_TOKENS)
    save_model(folder, draw_weights(DistilBertModel(config), 104), tokenizer, [Pooling(HIDDEN, "mean")])
    write_expected(folder, 104)


@cases.case("mpnet-mean")
def mpnet_mean(folder: Path) -> None:
    config = MPNetConfig(
        **bert_options(3) | {"max_position_embeddings": MAX_TOKENS + 2}, relative_attention_num_buckets=32
    )
    tokenizer = family.wrap(family.mpnet(), MAX_TOKENS)
    model = draw_weights(MPNetModel(config, add_pooling_layer=False), 105)
    save_model(folder, model, tokenizer, [Pooling(HIDDEN, "mean"), Normalize()])
    write_expected(folder, 105, special=("<pad>",))


@cases.case("xlm-roberta-cls")
def xlm_roberta_cls(folder: Path) -> None:
    """Like bge-m3 and multilingual-e5."""
    model = XLMRobertaModel(XLMRobertaConfig(**roberta_options(3)), add_pooling_layer=False)
    tokenizer = family.wrap(family.xlm_roberta(), MAX_TOKENS)
    save_model(folder, draw_weights(model, 106), tokenizer, [Pooling(HIDDEN, "cls"), Normalize()])
    write_expected(folder, 106, special=("<pad>",))


@cases.case("jina-bert-v2-mean")
def jina_bert_v2_mean(folder: Path) -> None:
    """Like jina-embeddings-v2-base-en, with six heads, whose ALiBi slopes are not one geometric series."""
    config = jina.config(VOCABULARY, hidden=72, heads=6, layers=2, inner=64, epsilon=EPSILON)
    tokenizer = family.wrap(family.word_piece(), LONG, segments=True)
    jina.write_case_folder(folder, config, tokenizer, seed=114, normalize=False)


@cases.case("jina-bert-v2-qk-norm-mean")
def jina_bert_v2_qk_norm_mean(folder: Path) -> None:
    """Like jina-embeddings-v2-base-code: norms of the queries and keys, other tensor names."""
    config = jina.config(VOCABULARY, hidden=64, heads=4, layers=3, inner=64, epsilon=EPSILON, qk_norm=True)
    jina.write_case_folder(folder, config, family.wrap(family.roberta(), LONG), seed=115, normalize=True)
