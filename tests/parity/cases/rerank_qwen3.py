"""The rerank case of Qwen3-Reranker, a language model that answers "yes" or "no" after a template."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

import tokenizer_families as family
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from case_files import check_agreement, check_logits_differ, edit_json, pair_records, token_counter, write_case
from random_weights import draw_weights
from reference import SENTENCE_TRANSFORMERS, TRANSFORMERS
from reference_rerank import TOLERANCE, predict
from registry import Cases
from texts import pairs_for

from .sizes import qwen_options

cases = Cases()

# The template of Qwen3-Reranker, from its model card. The three parts are tokenized separately. If the whole is too
# long, the end of the middle part is cut.
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
MIDDLE = "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
MAX_TOKENS = 448


@cases.case("rerank-qwen3")
def rerank_qwen3(folder: Path) -> None:
    """Like Qwen3-Reranker: the score is the probability of "yes" against "no" after the template, the logit that of
    "yes" minus that of "no"."""
    config = Qwen3Config(**qwen_options(MAX_TOKENS), head_dim=24)
    tokenizer = family.wrap(family.qwen(append_end=False), MAX_TOKENS, padding_side="left")
    draw_weights(Qwen3ForCausalLM(config), 307).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    edit_json(folder / "config.json", lambda config: None)
    model = Qwen3ForCausalLM.from_pretrained(folder).eval()
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    before, after = (tokenizer.encode(text, add_special_tokens=False) for text in (BEFORE, AFTER))
    room = MAX_TOKENS - len(before) - len(after)

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
    check_agreement(logits, in_single, TOLERANCE)
    check_logits_differ(folder.name, logits)
    case = {
        "task": "rerank",
        "reference": f"{TRANSFORMERS}, float64, the steps of the model card",
        "max_tokens": MAX_TOKENS,
        "activation": "Sigmoid",
        "instruction": INSTRUCTION,
    }
    lengths = [len(before) + len(middle(*pair)) + len(after) for pair in pairs]
    records = pair_records(pairs, lengths, MAX_TOKENS)
    write_case(folder, case, records, {"logits": logits, "scores": 1 / (1 + np.exp(-logits))})


# A template of the roles that `sentence-transformers` gives to a pair, with a default instruction.
TEMPLATE = """{%- set default = "Find what answers the query" -%}
<|im_start|>system
{{ messages | selectattr("role", "eq", "system") | map(attribute="content") | first | default(default) }}<|im_end|>
<|im_start|>user
{% for message in messages %}
{% if message.role == "query" %}<Query>: {{ message.content | trim }}
{% elif message["role"] == "document" %}<Document>: {{ message.content }}{% endif %}
{% endfor %}
<|im_end|>
<|im_start|>assistant
"""


def chain_case(folder: Path, seed: int, score: LogitScore, template: str | None, **options) -> None:
    """A folder of its own chain: a language model and the score of its answers."""
    config = Qwen3Config(**qwen_options(MAX_TOKENS), head_dim=24)
    tokenizer = family.wrap(family.qwen(append_end=False), MAX_TOKENS, padding_side="left")
    tokenizer.chat_template = template
    with tempfile.TemporaryDirectory() as language_model:
        draw_weights(Qwen3ForCausalLM(config), seed).save_pretrained(language_model)
        tokenizer.save_pretrained(language_model)
        chain = [Transformer(language_model, transformer_task="text-generation"), score]
        model = CrossEncoder(modules=chain, device="cpu", **options)
        model.save_pretrained(str(folder), create_model_card=False)
        for name in ("config.json", "model.safetensors"):
            shutil.copy(Path(language_model) / name, folder / name)
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    has_template = "message" in model[0].modality_config

    def count(query: str, document: str) -> int:
        if not has_template:
            return len(tokenizer(query, document)["input_ids"])
        system = model.prompts.get(model.default_prompt_name)
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": "query", "content": query}, {"role": "document", "content": document}]
        return len(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"])

    pairs = pairs_for(token_counter(tokenizer), MAX_TOKENS - count("", ""), seed)
    expected = predict(model, pairs)
    check_logits_differ(folder.name, expected["logits"])
    case = {
        "task": "rerank",
        "reference": f"{SENTENCE_TRANSFORMERS}, float64",
        "max_tokens": MAX_TOKENS,
        "activation": type(model.activation_fn).__name__,
    }
    write_case(folder, case, pair_records(pairs, [count(*pair) for pair in pairs], MAX_TOKENS), expected)


@cases.case("rerank-qwen3-chain")
def rerank_qwen3_chain(folder: Path) -> None:
    """Its own answers and a chat template with the roles of a pair; the default prompt is the instruction."""
    prompts = {"prompts": {"web": "Which passage is relevant?"}, "default_prompt_name": "web"}
    chain_case(folder, 309, LogitScore(true_token_id=70, false_token_id=91), TEMPLATE, **prompts)


@cases.case("rerank-qwen3-pair")
def rerank_qwen3_pair(folder: Path) -> None:
    """The logit of one answer alone, of a pair without a template."""
    chain_case(folder, 310, LogitScore(true_token_id=70), None)
