"""Sparse cases: masked language models with SPLADE pooling."""

import shutil
import tempfile
from pathlib import Path

import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

import tokenizer_families as family
from case_files import write_json
from random_weights import draw_weights
from reference_sparse import write_expected
from registry import Cases
from vocabularies import VOCABULARY

from .sizes import MAX_TOKENS, bert_options, distilbert_options, roberta_options

cases = Cases()


def lower_bias(bias: torch.nn.Parameter, by: float) -> None:
    """Lowers most of the vocabulary's logits below zero."""
    bias.data -= by


def bert(seed: int, tied: bool) -> BertForMaskedLM:
    config = BertConfig(**bert_options(2), tie_word_embeddings=tied)
    return draw_weights(BertForMaskedLM(config), seed)


@cases.case("bert-mlm-untied")
def bert_mlm_untied(folder: Path) -> None:
    """A separate decoder, whose bias is not `cls.predictions.bias`, in a folder as `sentence-transformers` saves it."""
    model = bert(201, tied=False)
    lower_bias(model.cls.predictions.decoder.bias, 3.0)
    with tempfile.TemporaryDirectory() as encoder:
        model.save_pretrained(encoder)
        family.wrap(family.word_piece(), MAX_TOKENS, segments=True).save_pretrained(encoder)
        modules = [Transformer(encoder, transformer_task="fill-mask"), SpladePooling("max")]
        SparseEncoder(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
        for name in ("config.json", "model.safetensors"):
            shutil.copy(Path(encoder) / name, folder / name)
    write_expected(folder, 201, MAX_TOKENS)


@cases.case("bert-mlm-prompt")
def bert_mlm_prompt(folder: Path) -> None:
    """A prompt before every document."""
    model = bert(204, tied=True)
    lower_bias(model.cls.predictions.bias, 12.0)
    with tempfile.TemporaryDirectory() as encoder:
        model.save_pretrained(encoder)
        family.wrap(family.word_piece(), MAX_TOKENS, segments=True).save_pretrained(encoder)
        modules = [Transformer(encoder, transformer_task="fill-mask"), SpladePooling("max")]
        prompts = {"prompts": {"document": "passage: ", "query": "query: "}, "default_prompt_name": "document"}
        SparseEncoder(modules=modules, device="cpu", **prompts).save_pretrained(str(folder), create_model_card=False)
        for name in ("config.json", "model.safetensors"):
            shutil.copy(Path(encoder) / name, folder / name)
    write_expected(folder, 204, MAX_TOKENS)


@cases.case("bert-mlm-tied")
def bert_mlm_tied(folder: Path) -> None:
    """The word embeddings as the decoder, with the bias `cls.predictions.bias`, in a folder without `modules.json`."""
    model = bert(202, tied=True)
    lower_bias(model.cls.predictions.bias, 12.0)
    model.save_pretrained(folder)
    family.wrap(family.word_piece(), MAX_TOKENS, segments=True).save_pretrained(folder)
    write_expected(folder, 202, MAX_TOKENS)


@cases.case("distilbert-mlm")
def distilbert_mlm(folder: Path) -> None:
    """The older form of `modules.json`."""
    config = DistilBertConfig(**distilbert_options(2))
    model = draw_weights(DistilBertForMaskedLM(config), 203)
    lower_bias(model.vocab_projector.bias, 9.0)
    model.save_pretrained(folder)
    family.wrap(family.word_piece(), MAX_TOKENS).save_pretrained(folder)
    kinds = {"": "MLMTransformer", "1_SpladePooling": "SpladePooling"}
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.sparse_encoder.models.{kind}"}
        for index, (path, kind) in enumerate(kinds.items())
    ]
    write_json(folder / "modules.json", modules)
    (folder / "1_SpladePooling").mkdir()
    pooling = {"pooling_strategy": "max", "activation_function": "relu", "word_embedding_dimension": VOCABULARY}
    write_json(folder / "1_SpladePooling" / "config.json", pooling)
    write_json(folder / "config_sentence_transformers.json", {"model_type": "SparseEncoder", "prompts": {}})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})
    write_expected(folder, 203, MAX_TOKENS)


@cases.case("roberta-mlm")
def roberta_mlm(folder: Path) -> None:
    """The word embeddings as the decoder, with the bias `lm_head.bias`."""
    model = draw_weights(RobertaForMaskedLM(RobertaConfig(**roberta_options(2))), 204)
    lower_bias(model.lm_head.bias, 12.0)
    model.save_pretrained(folder)
    family.wrap(family.roberta(), MAX_TOKENS).save_pretrained(folder)
    write_expected(folder, 204, MAX_TOKENS)


@cases.case("xlm-roberta-mlm")
def xlm_roberta_mlm(folder: Path) -> None:
    """A separate decoder, whose bias is not `lm_head.bias`."""
    config = XLMRobertaConfig(**roberta_options(2), tie_word_embeddings=False)
    model = draw_weights(XLMRobertaForMaskedLM(config), 205)
    lower_bias(model.lm_head.decoder.bias, 3.0)
    model.save_pretrained(folder)
    family.wrap(family.xlm_roberta(), MAX_TOKENS).save_pretrained(folder)
    write_expected(folder, 205, MAX_TOKENS)
