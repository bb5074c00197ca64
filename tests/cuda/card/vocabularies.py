"""Made-up vocabularies of the sizes of known ones, and the tokenizers over them.

A text's tokens can be counted without a tokenizer, and words of two tokens occur as they do in prose.
"""

import functools
import itertools
import random
import string

LETTERS = string.ascii_lowercase
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BERT_ENTRIES = 30_522
SUFFIXES = 1_000


@functools.cache
def words() -> tuple[list[str], list[str], list[str]]:
    """Words of three letters, words of four, and suffixes: one token each."""
    rng = random.Random(7)
    three = ["".join(letters) for letters in itertools.product(LETTERS, repeat=3)]
    four = ["".join(letters) for letters in itertools.product(LETTERS, repeat=4)]
    fours = BERT_ENTRIES - len(SPECIAL) - 2 * len(LETTERS) - len(three) - SUFFIXES
    return three, sorted(rng.sample(four, fours)), sorted(rng.sample(three, SUFFIXES))


def word_piece() -> list[str]:
    """The entries of the WordPiece vocabulary by id. No word is longer than four letters, so that a word of four with a
    suffix is always these two entries."""
    three, four, suffixes = words()
    single = list(LETTERS) + [f"##{letter}" for letter in LETTERS]
    return SPECIAL + single + three + four + [f"##{suffix}" for suffix in suffixes]


def byte_pairs() -> tuple[list[str], list[tuple[str, str]]]:
    """The entries of a byte-level BPE and its merges, by which a space and three letters become one entry."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = sorted([chr(byte) for byte in printable] + [chr(256 + at) for at in range(len(others))])
    merges, before = [], ["Ġ"]
    for _ in range(3):
        merges += [(start, letter) for start in before for letter in LETTERS]
        before = [start + letter for start in before for letter in LETTERS]
    return ["<|endoftext|>", "<|im_end|>", *alphabet, *map("".join, merges)], merges


def tokenizer_json(family: str) -> dict:
    if family == "qwen3":
        entries, merges = byte_pairs()
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
        model = {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "merges": [list(pair) for pair in merges],
        }
        special, normalizer, pre_tokenizer, decoder = entries[:2], {"type": "NFC"}, byte_level, byte_level
        frame = {"single": ["$A", special[0]], "pair": ["$A", special[0], "$B", special[0]]}
    else:
        entries = word_piece()
        model = {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        }
        normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
        normalizer |= {"strip_accents": None, "lowercase": True}
        special, pre_tokenizer = SPECIAL, {"type": "BertPreTokenizer"}
        decoder = {"type": "WordPiece", "prefix": "##", "cleanup": True}
        frame = {"single": ["[CLS]", "$A", "[SEP]"], "pair": ["[CLS]", "$A", "[SEP]", "$B:1", "[SEP]:1"]}
    model["vocab"] = {entry: index for index, entry in enumerate(entries)}

    def piece(written: str) -> dict:
        name, _, segment = written.partition(":")
        if name.startswith("$"):
            return {"Sequence": {"id": name[1:], "type_id": int(segment or 0)}}
        return {"SpecialToken": {"id": name, "type_id": int(segment or 0)}}

    used = {part.partition(":")[0] for part in frame["pair"] if not part.startswith("$")}
    template = {
        "type": "TemplateProcessing",
        **{name: [piece(part) for part in parts] for name, parts in frame.items()},
        "special_tokens": {
            name: {"id": name, "ids": [model["vocab"][name]], "tokens": [name]} for name in sorted(used)
        },
    }
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": model["vocab"][token], "content": token, **flags} for token in special],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": template,
        "decoder": decoder,
        "model": model,
    }


def tokenizer_config(family: str, max_tokens: int) -> dict:
    common = {"model_max_length": max_tokens, "tokenizer_class": "PreTrainedTokenizerFast"}
    if family == "qwen3":
        names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
        return common | names | {"model_input_names": ["input_ids", "attention_mask"], "padding_side": "left"}
    names = {f"{role}_token": f"[{role.upper()}]" for role in ("cls", "sep", "pad", "unk", "mask")}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return common | names | {"model_input_names": inputs, "padding_side": "right"}
