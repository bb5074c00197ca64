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
from case_files import edit_json
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


@cases.case("bert-class-mean")
def bert_class_mean(folder: Path) -> None:
    """`BertTokenizer` builds its normalizer anew: lower case and accents are those of `tokenizer_config.json`, not of
    `tokenizer.json`. A token is added by id, and the older name of `sentence_bert_config.json` sets the length."""
    tokenizer = family.wrap(family.word_piece(lowercase=False), MAX_TOKENS, segments=True)
    save_model(folder, bert(161, layers=2), tokenizer, [Pooling(HIDDEN, "mean")])
    properties = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    ids = tokenizer.get_vocab()
    special = {str(ids[token]): {"content": token, **properties} for token in tokenizer.all_special_tokens}
    word = {"content": "the", **properties, "lstrip": True, "normalized": True, "special": False}

    def edit(config: dict) -> None:
        config |= {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": False}
        config |= {"truncation_side": "left", "added_tokens_decoder": special | {str(ids["the"]): word}}

    edit_json(folder / "tokenizer_config.json", edit)
    (folder / "sentence_bert_config.json").rename(folder / "sentence_distilbert_config.json")
    edit_json(folder / "sentence_distilbert_config.json", lambda config: config.update(max_seq_length=48))
    write_expected(folder, 161, special=("[SEP]", "[PAD]", "[MASK]", "the"))


@cases.case("roberta-class-mean")
def roberta_class_mean(folder: Path) -> None:
    """`RobertaTokenizer` with `add_prefix_space`, which `tokenizer.json` does not have."""
    model = RobertaModel(RobertaConfig(**roberta_options(3)), add_pooling_layer=False)
    save_model(folder, draw_weights(model, 148), family.wrap(family.roberta(), MAX_TOKENS), [Pooling(HIDDEN, "mean")])
    settings = {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True}
    edit_json(folder / "tokenizer_config.json", lambda config: config.update(settings))
    edit_json(folder / "sentence_bert_config.json", lambda config: config.update(do_lower_case=True))
    write_expected(folder, 148, special=("</s>", "<pad>", "<mask>"))


@cases.case("xlm-roberta-class-cls")
def xlm_roberta_class_cls(folder: Path) -> None:
    """`XLMRobertaTokenizer` drops the normalizers of `tokenizer.json`, which have no character map of SentencePiece."""
    model = XLMRobertaModel(XLMRobertaConfig(**roberta_options(2)), add_pooling_layer=False)
    tokenizer = family.wrap(family.xlm_roberta(), MAX_TOKENS)
    save_model(folder, draw_weights(model, 163), tokenizer, [Pooling(HIDDEN, "cls"), Normalize()])
    edit_json(folder / "tokenizer_config.json", lambda config: config.update(tokenizer_class="XLMRobertaTokenizer"))
    write_expected(folder, 163, special=("<pad>",))


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
