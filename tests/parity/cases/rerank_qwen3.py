"""The rerank case of Qwen3-Reranker, a language model that answers "yes" or "no" after a template."""

from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

import tokenizer_families as family
from case_files import check_agreement, check_logits_differ, edit_json, pair_records, token_counter, write_case
from random_weights import draw_weights
from reference import TRANSFORMERS
from reference_rerank import TOLERANCE
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
