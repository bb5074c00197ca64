"""Rerank cases: cross-encoders with a classification head."""

from collections.abc import Callable
from pathlib import Path

from sentence_transformers import CrossEncoder
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

import tokenizer_families as family
from case_files import edit_json
from random_weights import draw_weights
from reference_rerank import write_expected
from registry import Cases

from .sizes import LONG, MAX_TOKENS, bert_options, distilbert_options, modern_bert_options, roberta_options

cases = Cases()


def save_model(folder: Path, model, tokenizer, edit: Callable[[dict], None] = lambda config: None) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    edit_json(folder / "config.json", edit)


def bert(seed: int) -> BertForSequenceClassification:
    return draw_weights(BertForSequenceClassification(BertConfig(**bert_options(2), num_labels=1)), seed)


@cases.case("rerank-bert")
def rerank_bert(folder: Path) -> None:
    """Like the ms-marco models: raw logits, set in `config.json`."""

    def set_raw_logits(config: dict) -> None:
        config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0"}

    save_model(folder, bert(301), family.wrap(family.word_piece(), MAX_TOKENS, segments=True), set_raw_logits)
    write_expected(folder, 301)


@cases.case("rerank-bert-sigmoid")
def rerank_bert_sigmoid(folder: Path) -> None:
    """The default activation, where the configuration sets none."""
    save_model(folder, bert(302), family.wrap(family.word_piece(), MAX_TOKENS, segments=True))
    write_expected(folder, 302)


@cases.case("rerank-bert-prompt")
def rerank_bert_prompt(folder: Path) -> None:
    """A default prompt, which precedes the query, and an activation that precedes that of `config.json`."""

    def set_raw_logits(config: dict) -> None:
        config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0"}

    save_model(folder, bert(308), family.wrap(family.word_piece(), MAX_TOKENS, segments=True), set_raw_logits)
    prompts = {"prompts": {"search": "find: "}, "default_prompt_name": "search"}
    config = (folder / "config.json").read_bytes()
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True, activation_fn=nn.Tanh(), **prompts)
    model.save_pretrained(str(folder), create_model_card=False)
    (folder / "config.json").write_bytes(config)
    write_expected(folder, 308)


@cases.case("rerank-roberta")
def rerank_roberta(folder: Path) -> None:
    """Raw logits, set by the key of older models."""

    def set_raw_logits(config: dict) -> None:
        config["sbert_ce_default_activation_function"] = "torch.nn.modules.linear.Identity"

    model = draw_weights(RobertaForSequenceClassification(RobertaConfig(**roberta_options(2), num_labels=1)), 303)
    save_model(folder, model, family.wrap(family.roberta(), MAX_TOKENS), set_raw_logits)
    write_expected(folder, 303)


@cases.case("rerank-xlm-roberta")
def rerank_xlm_roberta(folder: Path) -> None:
    """Like bge-reranker-v2-m3."""
    model = draw_weights(XLMRobertaForSequenceClassification(XLMRobertaConfig(**roberta_options(2), num_labels=1)), 304)
    save_model(folder, model, family.wrap(family.xlm_roberta(), MAX_TOKENS))
    write_expected(folder, 304)


@cases.case("rerank-distilbert")
def rerank_distilbert(folder: Path) -> None:
    """A hidden layer with ReLU, whatever the activation of the encoder."""
    config = DistilBertConfig(**distilbert_options(2), num_labels=1)
    model = draw_weights(DistilBertForSequenceClassification(config), 307)
    save_model(folder, model, family.wrap(family.word_piece(), MAX_TOKENS))
    write_expected(folder, 307)


def modern_bert(seed: int, **options) -> ModernBertForSequenceClassification:
    config = ModernBertConfig(**modern_bert_options(3, inner=48), num_labels=1, **options)
    return draw_weights(ModernBertForSequenceClassification(config), seed)


@cases.case("rerank-modernbert-mean")
def rerank_modernbert_mean(folder: Path) -> None:
    """Like gte-reranker-modernbert, with the keys of the rotary bases and of the layers as published models have
    them."""

    def write_hub_keys(config: dict) -> None:
        rope = config.pop("rope_parameters")
        config["global_rope_theta"] = rope["full_attention"]["rope_theta"]
        config["local_rope_theta"] = rope["sliding_attention"]["rope_theta"]
        del config["layer_types"]
        config["global_attn_every_n_layers"] = 3

    model = modern_bert(305, classifier_pooling="mean")
    save_model(folder, model, family.wrap(family.modern_bert(), LONG), write_hub_keys)
    write_expected(folder, 305)


@cases.case("rerank-modernbert-cls")
def rerank_modernbert_cls(folder: Path) -> None:
    """With every optional bias, and a folder as `sentence-transformers` saves it, with the activation in
    `config_sentence_transformers.json`."""
    biases = {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True}
    save_model(folder, modern_bert(306, classifier_pooling="cls", **biases), family.wrap(family.modern_bert(), LONG))
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True, activation_fn=nn.Identity())
    weights = (folder / "model.safetensors").read_bytes()
    model.save_pretrained(str(folder), create_model_card=False)
    assert (folder / "model.safetensors").read_bytes() == weights
    write_expected(folder, 306)
