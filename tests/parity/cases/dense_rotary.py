"""Dense cases of encoders with rotary positions: ModernBERT, NomicBERT, and the `new` models (GTE)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import (
    GteConfig,
    GteModel,
    ModernBertConfig,
    ModernBertModel,
    NomicBertConfig,
    NomicBertModel,
)

import tokenizer_families as family
from case_files import write_json
from random_weights import draw_weights
from reference import SENTENCE_TRANSFORMERS
from reference_dense import save_model, write_expected
from registry import Cases
from vocabularies import VOCABULARY

from .sizes import EPSILON, HEADS, HIDDEN, LONG, modern_bert_options

cases = Cases()


@cases.case("modernbert-mean")
def modernbert_mean(folder: Path) -> None:
    """Global attention in layers 0 and 3, local in 1 and 2, each with its own rotary base."""
    config = ModernBertConfig(**modern_bert_options(4, inner=64), global_attn_every_n_layers=3)
    tokenizer = family.wrap(family.modern_bert(), LONG)
    save_model(folder, draw_weights(ModernBertModel(config), 107), tokenizer, [Pooling(HIDDEN, "mean"), Normalize()])
    write_expected(folder, 107, special=("[SEP]", "[PAD]"))


def nomic_bert(seed: int, layers: int) -> NomicBertModel:
    """The embedding table is padded beyond the tokenizer's vocabulary, as in the published models."""
    config = NomicBertConfig(
        vocab_size=VOCABULARY + 16,
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        intermediate_size=80,
        max_position_embeddings=LONG,
        layer_norm_eps=EPSILON,
    )
    return draw_weights(NomicBertModel(config), seed)


NOMIC_PROMPTS = {"search_query": "search_query: ", "search_document": "search_document: "}


@cases.case("nomic-bert-mean")
def nomic_bert_mean(folder: Path) -> None:
    """Like nomic-embed-text and CodeRankEmbed as published: `transformers` saves their tensor names, and the keys of
    their configuration are written here."""
    tokenizer = family.wrap(family.word_piece(), LONG, segments=True)
    modules = [Pooling(HIDDEN, "mean"), Normalize()]
    save_model(folder, nomic_bert(112, 3), tokenizer, modules, prompts=NOMIC_PROMPTS)
    write_expected(folder, 112, prompt=NOMIC_PROMPTS["search_document"])
    write_json(
        folder / "config.json",
        {
            "activation_function": "swiglu",
            "architectures": ["NomicBertModel"],
            "attn_pdrop": 0.0,
            "causal": False,
            "embd_pdrop": 0.0,
            "layer_norm_epsilon": EPSILON,
            "max_trained_positions": LONG,
            "mlp_fc1_bias": False,
            "mlp_fc2_bias": False,
            "model_type": "nomic_bert",
            "n_embd": HIDDEN,
            "n_head": HEADS,
            "n_inner": 80,
            "n_layer": 3,
            "n_positions": LONG,
            "pad_vocab_size_multiple": 16,
            "parallel_block": False,
            "prenorm": False,
            "qkv_proj_bias": False,
            "rotary_emb_base": 1000,
            "rotary_emb_fraction": 1.0,
            "rotary_emb_interleaved": False,
            "rotary_emb_scale_base": None,
            "rotary_scaling_factor": None,
            "tie_word_embeddings": True,
            "type_vocab_size": 2,
            "use_rms_norm": False,
            "vocab_size": VOCABULARY + 16,
        },
    )


@cases.case("nomic-bert-mean-saved")
def nomic_bert_mean_saved(folder: Path) -> None:
    """The same model with a configuration as `transformers` 5 saves it."""
    tokenizer = family.wrap(family.word_piece(), LONG, segments=True)
    save_model(folder, nomic_bert(113, 2), tokenizer, [Pooling(HIDDEN, "mean")], prompts=NOMIC_PROMPTS)
    write_expected(folder, 113)


def gte(seed: int, layers: int, **options) -> GteModel:
    config = GteConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        intermediate_size=64,
        max_position_embeddings=LONG,
        layer_norm_eps=EPSILON,
        pad_token_id=0,
        **options,
    )
    return draw_weights(GteModel(config), seed)


def scale_rope(theta: float, factor: float) -> Callable[[SentenceTransformer], None]:
    """NTK scaling as in the published code of the `new` models, which `transformers` lacks: the base is multiplied by
    the factor, and the frequencies are divided by factor^(2 / head size)."""

    def prepare(model: SentenceTransformer) -> None:
        size = HIDDEN // HEADS
        exponents = torch.arange(0, size, 2, dtype=torch.float64) / size
        frequencies = (theta * factor) ** -exponents / factor ** (2 / size)
        model[0].model.rotary_emb.inv_freq.data = frequencies.float()

    return prepare


def new_config(layers: int, type_vocab_size: int, theta: float, factor: float) -> dict:
    return {
        "architectures": ["NewModel"],
        "attention_probs_dropout_prob": 0.0,
        "auto_map": {"AutoConfig": "Alibaba-NLP/new-impl--configuration.NewConfig"},
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": HIDDEN,
        "intermediate_size": 64,
        "layer_norm_eps": EPSILON,
        "layer_norm_type": "layer_norm",
        "logn_attention_clip1": False,
        "logn_attention_scale": False,
        "max_position_embeddings": LONG,
        "model_type": "new",
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "pack_qkv": True,
        "pad_token_id": 0,
        "position_embedding_type": "rope",
        "rope_scaling": {"factor": factor, "type": "ntk"},
        "rope_theta": theta,
        "type_vocab_size": type_vocab_size,
        "unpad_inputs": False,
        "use_memory_efficient_attention": False,
        "vocab_size": VOCABULARY,
    }


NEW_REFERENCE = f"{SENTENCE_TRANSFORMERS} (GteModel, its rotary frequencies scaled here)"


@cases.case("new-cls")
def new_cls(folder: Path) -> None:
    """Like gte-base-en-v1.5: no segments, NTK scaling."""
    tokenizer = family.wrap(family.word_piece(), LONG)
    modules = [Pooling(HIDDEN, "cls"), Normalize()]
    save_model(folder, gte(116, 3, type_vocab_size=0), tokenizer, modules)
    write_expected(folder, 116, reference=NEW_REFERENCE, prepare=scale_rope(500_000.0, 2.0))
    write_json(folder / "config.json", new_config(3, 0, 500_000.0, 2.0))


@cases.case("new-cls-prefixed")
def new_cls_prefixed(folder: Path) -> None:
    """Like gte-multilingual-base: a segment table, tensors named `new.*`, and an unused token classifier."""
    tokenizer = family.wrap(family.word_piece(), LONG, segments=True)
    save_model(folder, gte(117, 2, type_vocab_size=1), tokenizer, [Pooling(HIDDEN, "cls")])
    write_expected(folder, 117, reference=NEW_REFERENCE, prepare=scale_rope(20_000.0, 8.0))
    weights = folder / "model.safetensors"
    tensors = {f"new.{name}": tensor for name, tensor in load_file(weights).items()}
    tensors |= {"classifier.weight": np.ones((1, HIDDEN), np.float32), "classifier.bias": np.ones(1, np.float32)}
    save_file(tensors, weights, metadata={"format": "pt"})
    config = new_config(2, 1, 20_000.0, 8.0) | {"architectures": ["NewForTokenClassification"]}
    write_json(folder / "config.json", config)
