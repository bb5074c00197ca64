"""Dense cases of decoders that serve as encoders: Qwen2, Qwen3, Gemma 3."""

from pathlib import Path

from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling
from torch import nn
from transformers import (
    Gemma3TextConfig,
    Gemma3TextModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3Model,
)

import tokenizer_families as family
from case_files import edit_json
from random_weights import draw_weights
from reference_dense import save_model, write_expected
from registry import Cases
from vocabularies import VOCABULARY

from .sizes import EPSILON, HEADS, HIDDEN, LONG, WINDOW, qwen_options

cases = Cases()


def write_hub_rope_keys(config: dict) -> None:
    """Writes the rotary base as configurations before `transformers` 5 have it."""
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None


@cases.case("qwen3-last-token")
def qwen3_last_token(folder: Path) -> None:
    """Like Qwen3-Embedding: causal, an end token appended, left padding, a prompt for queries."""
    config = Qwen3Config(head_dim=24, rope_theta=1_000_000.0, **qwen_options(LONG))
    tokenizer = family.wrap(family.qwen(append_end=True), LONG, padding_side="left")
    prompt = "Instruct: Given a search query, retrieve the passages that answer it\nQuery:"
    prompts = {"query": prompt, "document": ""}
    modules = [Pooling(HIDDEN, "lasttoken"), Normalize()]
    save_model(folder, draw_weights(Qwen3Model(config), 108), tokenizer, modules, prompts=prompts)
    edit_json(folder / "config.json", write_hub_rope_keys)
    write_expected(folder, 108, special=("<|endoftext|>",), prompt_name="query")


@cases.case("qwen2-last-token")
def qwen2_last_token(folder: Path) -> None:
    """Like jina-code-embeddings: the tensors of a causal language model, no special tokens."""
    config = Qwen2Config(**qwen_options(LONG))
    tokenizer = family.wrap(family.qwen(append_end=False), LONG, padding_side="left")
    prompts = {"nl2code_query": "Find the code for this:\n", "nl2code_document": "Candidate code:\n"}
    modules = [Pooling(HIDDEN, "lasttoken"), Normalize()]
    save_model(folder, draw_weights(Qwen2ForCausalLM(config), 109), tokenizer, modules, prompts=prompts)
    write_expected(folder, 109)


def gemma3(seed: int, layers: int, window_pattern: int) -> Gemma3TextModel:
    config = Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=1,
        head_dim=24,
        query_pre_attn_scalar=20,
        intermediate_size=48,
        max_position_embeddings=LONG,
        rms_norm_eps=EPSILON,
        sliding_window=WINDOW,
        sliding_window_pattern=window_pattern,
        use_bidirectional_attention=True,
    )
    return draw_weights(Gemma3TextModel(config), seed)


def gemma_modules(seed: int) -> list[nn.Module]:
    def dense(inner: int, outer: int) -> Dense:
        return draw_weights(Dense(inner, outer, bias=False, activation_function=nn.Identity()), seed + inner)

    return [Pooling(HIDDEN, "mean"), dense(HIDDEN, 96), dense(96, HIDDEN), Normalize()]


GEMMA_PROMPTS = {"query": "task: search result | query: ", "document": "title: none | text: "}


@cases.case("gemma3-mean")
def gemma3_mean(folder: Path) -> None:
    """Like EmbeddingGemma: local attention except in the third layer, both directions, two dense layers after
    pooling."""

    def write_hub_keys(config: dict) -> None:
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope["full_attention"]["rope_theta"]
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        config["rope_scaling"] = None

    tokenizer = family.wrap(family.gemma(), LONG)
    save_model(folder, gemma3(110, 4, 3), tokenizer, gemma_modules(110), prompts=GEMMA_PROMPTS)
    edit_json(folder / "config.json", write_hub_keys)
    write_expected(folder, 110, special=("<eos>", "<pad>"), prompt_name="document")


@cases.case("gemma3-mean-saved")
def gemma3_mean_saved(folder: Path) -> None:
    """The same model with a configuration as `transformers` 5 saves it."""
    tokenizer = family.wrap(family.gemma(), LONG, padding_side="left")
    save_model(folder, gemma3(111, 2, 2), tokenizer, gemma_modules(111), prompts=GEMMA_PROMPTS)
    write_expected(folder, 111, prompt_name="query")
