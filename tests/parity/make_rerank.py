"""Makes the rerank cases: small random cross-encoders, and the logits and scores that the reference gives.

    "$(../../scripts/python-env.sh parity)" make_rerank.py [CASE...]
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

import tokenizer_families as family
from common import EPSILON, SENTENCE_TRANSFORMERS, TRANSFORMERS, Cases, edit_json, shape, token_counter, write_case
from texts import pairs_for

HIDDEN = 64
HEADS = 4
MAX_TOKENS = 96
LONG = 128

cases = Cases()


def pair_records(pairs: list[tuple[str, str]], wholes: list[int], max_tokens: int) -> list[dict]:
    return [
        {"query": query, "document": document, "tokens": min(whole, max_tokens), "lost": max(whole - max_tokens, 0)}
        for (query, document), whole in zip(pairs, wholes, strict=True)
    ]


def agree(logits: np.ndarray, in_single: np.ndarray) -> None:
    difference = np.abs(logits - in_single).max()
    assert difference < 1e-4, f"padding and precision change the reference by {difference}"


def say_spread(name: str, logits: np.ndarray) -> None:
    """How far the logits of different pairs lie apart: among logits that are all alike, mistakes would hide."""
    print(f"{name}: {len(logits)} pairs, logits {logits.min():.2f} to {logits.max():.2f}, deviation {logits.std():.2f}")
    assert logits.std() > 0.2, f"{name}: all logits are alike"


def save(folder: Path, model, tokenizer, edit: Callable[[dict], None] = lambda config: None) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    edit_json(folder / "config.json", edit)


def finish(folder: Path, seed: int) -> None:
    """Reads the folder back as any user would and writes what the reference makes of the pairs."""
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    max_tokens = model.max_length
    count = token_counter(model.tokenizer)
    pairs = pairs_for(count, max_tokens, seed)
    expected = predict(model, pairs)
    say_spread(folder.name, expected["logits"])
    case = {
        "task": "rerank",
        "reference": f"{SENTENCE_TRANSFORMERS}, float64",
        "max_tokens": max_tokens,
        "activation": type(model.activation_fn).__name__,
    }
    records = pair_records(pairs, [count(*pair) for pair in pairs], max_tokens)
    write_case(folder, case, records, expected)


def predict(model: CrossEncoder, pairs: list[tuple[str, str]]) -> dict[str, np.ndarray]:
    """The logits, and the scores after the activation that the model asks for; each pair alone and in double precision.
    In single precision and in padded batches the reference has to agree with that."""
    in_single = model.predict(pairs, activation_fn=nn.Identity(), batch_size=7)
    model.double()
    logits = model.predict(pairs, activation_fn=nn.Identity(), batch_size=1)
    agree(logits, in_single)
    return {"logits": logits, "scores": model.predict(pairs, batch_size=1)}


def bert(seed: int) -> BertForSequenceClassification:
    config = BertConfig(
        vocab_size=family.VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=80,
        max_position_embeddings=MAX_TOKENS,
        layer_norm_eps=EPSILON,
        num_labels=1,
    )
    return shape(BertForSequenceClassification(config), seed)


@cases.case("rerank-bert")
def rerank_bert(folder: Path) -> None:
    """As the ms-marco models are: raw logits, asked for in `config.json`."""

    def ask_for_logits(config: dict) -> None:
        config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0"}

    save(folder, bert(301), family.wrap(family.word_piece(), MAX_TOKENS, segments=True), ask_for_logits)
    finish(folder, 301)


@cases.case("rerank-bert-sigmoid")
def rerank_bert_sigmoid(folder: Path) -> None:
    """The activation where the configuration asks for none."""
    save(folder, bert(302), family.wrap(family.word_piece(), MAX_TOKENS, segments=True))
    finish(folder, 302)


def roberta_options() -> dict:
    return {
        "vocab_size": family.VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "intermediate_size": 80,
        "max_position_embeddings": MAX_TOKENS + 2,
        "type_vocab_size": 1,
        "layer_norm_eps": EPSILON,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "num_labels": 1,
    }


@cases.case("rerank-roberta")
def rerank_roberta(folder: Path) -> None:
    """The activation under the key that older models have."""

    def ask_for_logits(config: dict) -> None:
        config["sbert_ce_default_activation_function"] = "torch.nn.modules.linear.Identity"

    model = shape(RobertaForSequenceClassification(RobertaConfig(**roberta_options())), 303)
    save(folder, model, family.wrap(family.roberta(), MAX_TOKENS), ask_for_logits)
    finish(folder, 303)


@cases.case("rerank-xlm-roberta")
def rerank_xlm_roberta(folder: Path) -> None:
    """As bge-reranker-v2-m3 is."""
    model = shape(XLMRobertaForSequenceClassification(XLMRobertaConfig(**roberta_options())), 304)
    save(folder, model, family.wrap(family.xlm_roberta(), MAX_TOKENS))
    finish(folder, 304)


def modern_bert(seed: int, **options) -> ModernBertForSequenceClassification:
    config = ModernBertConfig(
        vocab_size=family.VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        intermediate_size=48,
        max_position_embeddings=LONG,
        norm_eps=EPSILON,
        local_attention=16,
        pad_token_id=3,
        bos_token_id=1,
        cls_token_id=1,
        eos_token_id=2,
        sep_token_id=2,
        num_labels=1,
        **options,
    )
    return shape(ModernBertForSequenceClassification(config), seed)


@cases.case("rerank-modernbert-mean")
def rerank_modernbert_mean(folder: Path) -> None:
    """As gte-reranker-modernbert is, with the keys of the rotary bases and of the layers that published models have."""

    def keys_of_the_hub(config: dict) -> None:
        rope = config.pop("rope_parameters")
        config["global_rope_theta"] = rope["full_attention"]["rope_theta"]
        config["local_rope_theta"] = rope["sliding_attention"]["rope_theta"]
        del config["layer_types"]
        config["global_attn_every_n_layers"] = 3

    model = modern_bert(305, classifier_pooling="mean")
    save(folder, model, family.wrap(family.modern_bert(), LONG), keys_of_the_hub)
    finish(folder, 305)


@cases.case("rerank-modernbert-cls")
def rerank_modernbert_cls(folder: Path) -> None:
    """With every bias that there may be; a folder as `sentence-transformers` saves it, with the activation in
    `config_sentence_transformers.json`."""
    biases = {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True}
    save(folder, modern_bert(306, classifier_pooling="cls", **biases), family.wrap(family.modern_bert(), LONG))
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True, activation_fn=nn.Identity())
    weights = (folder / "model.safetensors").read_bytes()
    model.save_pretrained(str(folder), create_model_card=False)
    assert (folder / "model.safetensors").read_bytes() == weights
    finish(folder, 306)


# The template of Qwen3-Reranker, from its model card. The three parts are tokenized apart, and where the whole is too
# long the end of the middle one is cut.
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
MIDDLE = "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
QWEN_TOKENS = 448


@cases.case("rerank-qwen3")
def rerank_qwen3(folder: Path) -> None:
    """As Qwen3-Reranker is: the score is the probability of "yes" against "no" after the template. The logit is that of
    "yes" less that of "no"."""
    config = Qwen3Config(
        vocab_size=family.VOCABULARY + 2,
        hidden_size=HIDDEN,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        head_dim=24,
        intermediate_size=64,
        max_position_embeddings=QWEN_TOKENS,
        rms_norm_eps=EPSILON,
        tie_word_embeddings=True,
    )
    tokenizer = family.wrap(family.qwen(append_end=False), QWEN_TOKENS, padding_side="left")
    save(folder, shape(Qwen3ForCausalLM(config), 307), tokenizer)
    model = Qwen3ForCausalLM.from_pretrained(folder).eval()
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    before, after = (tokenizer.encode(text, add_special_tokens=False) for text in (BEFORE, AFTER))
    room = QWEN_TOKENS - len(before) - len(after)

    def middle(query: str, document: str) -> list[int]:
        return tokenizer.encode(MIDDLE.format(instruction=INSTRUCTION, query=query, document=document))

    @torch.no_grad()
    def logit(model: Qwen3ForCausalLM, pair: tuple[str, str]) -> float:
        ids = torch.tensor([before + middle(*pair)[:room] + after])
        last = model(input_ids=ids).logits[0, -1]
        return (last[yes] - last[no]).item()

    pairs = pairs_for(token_counter(tokenizer), room - len(middle("", "")), 307)
    in_single = np.array([logit(model, pair) for pair in pairs])
    model.double()
    logits = np.array([logit(model, pair) for pair in pairs])
    agree(logits, in_single)
    say_spread(folder.name, logits)
    case = {
        "task": "rerank",
        "reference": f"{TRANSFORMERS}, float64, the steps of the model card",
        "max_tokens": QWEN_TOKENS,
        "activation": "Sigmoid",
        "instruction": INSTRUCTION,
    }
    wholes = [len(before) + len(middle(*pair)) + len(after) for pair in pairs]
    records = pair_records(pairs, wholes, QWEN_TOKENS)
    write_case(folder, case, records, {"logits": logits, "scores": 1 / (1 + np.exp(-logits))})


if __name__ == "__main__":
    cases.main()
