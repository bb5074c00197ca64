"""Model folders of random weights in the shapes of known models, and texts of a wanted number of tokens.

    shapes.py SHAPE DIR [--tiny]        lays out a folder; SHAPE is one of SHAPES
    shapes.py --texts KIND NUMBER FILE  writes JSON lines; KIND is one of TEXTS

Only PyTorch is needed. The vocabulary is made up so that a text's tokens can be counted without a tokenizer, and that
words of two tokens occur as they do in prose.
"""

import argparse
import ctypes
import functools
import itertools
import json
import random
import string
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import torch

LETTERS = string.ascii_lowercase
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ENTRIES = 30_522  # of BERT
SUFFIXES = 1_000
LONGEST = 512


@dataclass(frozen=True)
class Shape:
    """A model's sizes; `family` is bert or qwen3, `task` what it is used for."""

    family: str
    task: str
    layers: int
    hidden: int
    heads: int
    inner: int
    pooling: str = "mean"
    kv_heads: int = 0
    head: int = 0

    @property
    def width(self) -> int:
        return self.head or self.hidden // self.heads

    def products(self) -> list[tuple[int, int, int]]:
        """`(inputs, outputs, how many)` of every weight that each token goes through."""
        queries, others = self.heads * self.width, (self.kv_heads or self.heads) * self.width
        gates = 2 if self.family == "qwen3" else 1
        shapes = [
            (self.hidden, queries + 2 * others, self.layers),  # query, key and value at once
            (queries, self.hidden, self.layers),
            (self.hidden, gates * self.inner, self.layers),
            (self.inner, self.hidden, self.layers),
        ]
        if self.task == "sparse":
            shapes += [(self.hidden, self.hidden, 1), (self.hidden, ENTRIES, 1)]
        return shapes

    def flop_per_token(self) -> int:
        """Of the products with weights; attention's own products are left out, as in tests/bench/flop.py."""
        return sum(2 * inputs * outputs * times for inputs, outputs, times in self.products())

    def tiny(self) -> "Shape":
        """The same parts in little, for a CPU."""
        head = 32 if self.head else 0
        return replace(self, layers=2, hidden=64, heads=4, inner=128, kv_heads=self.kv_heads and 2, head=head)


SHAPES = {
    "bert-large": Shape("bert", "dense", 24, 1024, 16, 4096),
    "bert-base": Shape("bert", "dense", 12, 768, 12, 3072),
    "bge-small": Shape("bert", "dense", 12, 384, 12, 1536, pooling="cls"),
    "minilm-l6": Shape("bert", "dense", 6, 384, 12, 1536),
    "splade-base": Shape("bert", "sparse", 12, 768, 12, 3072),
    "cross-minilm-l12": Shape("bert", "rerank", 12, 384, 12, 1536),
    "qwen3-0.6b": Shape("qwen3", "dense", 28, 1024, 16, 3072, pooling="lasttoken", kv_heads=8, head=128),
}


# The vocabulary.


@functools.cache
def words() -> tuple[list[str], list[str], list[str]]:
    """Words of three letters, words of four, and suffixes: one token each."""
    rng = random.Random(7)
    three = ["".join(letters) for letters in itertools.product(LETTERS, repeat=3)]
    four = ["".join(letters) for letters in itertools.product(LETTERS, repeat=4)]
    fours = ENTRIES - len(SPECIAL) - 2 * len(LETTERS) - len(three) - SUFFIXES
    return three, sorted(rng.sample(four, fours)), sorted(rng.sample(three, SUFFIXES))


def word_piece() -> list[str]:
    """The entries of the WordPiece vocabulary by id. No word is longer than four letters, so that a word of four with a
    suffix is always these two entries."""
    three, four, suffixes = words()
    single = list(LETTERS) + [f"##{letter}" for letter in LETTERS]
    return SPECIAL + single + three + four + [f"##{suffix}" for suffix in suffixes]


def byte_pairs() -> tuple[list[str], list[tuple[str, str]]]:
    """The entries of a byte-level BPE and its merges, by which a space and three letters become one entry."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    alphabet = sorted([chr(byte) for byte in printed] + [chr(256 + at) for at in range(len(others))])
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


# The folder.


def tensors(shape: Shape) -> dict[str, tuple[tuple[int, ...], float, float]]:
    """The shape, the mean and the deviation of every tensor, by its name in the file of the family."""
    found = {}

    def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        found[f"{name}.weight"] = ((outputs, inputs), 0.0, inputs**-0.5)
        if bias:
            found[f"{name}.bias"] = ((outputs,), 0.0, 0.02)

    def norm(name: str, width: int, bias: bool = True) -> None:
        found[f"{name}.weight"] = ((width,), 1.0, 0.05)
        if bias:
            found[f"{name}.bias"] = ((width,), 0.0, 0.05)

    hidden, inner = shape.hidden, shape.inner
    if shape.family == "qwen3":
        queries, others = shape.heads * shape.width, shape.kv_heads * shape.width
        found["embed_tokens.weight"] = ((len(byte_pairs()[0]), hidden), 0.0, 1.0)
        for layer in range(shape.layers):
            at = f"layers.{layer}"
            norm(f"{at}.input_layernorm", hidden, bias=False)
            norm(f"{at}.post_attention_layernorm", hidden, bias=False)
            for name, outputs in (("q", queries), ("k", others), ("v", others)):
                linear(f"{at}.self_attn.{name}_proj", hidden, outputs, bias=False)
            linear(f"{at}.self_attn.o_proj", queries, hidden, bias=False)
            norm(f"{at}.self_attn.q_norm", shape.width, bias=False)
            norm(f"{at}.self_attn.k_norm", shape.width, bias=False)
            linear(f"{at}.mlp.gate_proj", hidden, inner, bias=False)
            linear(f"{at}.mlp.up_proj", hidden, inner, bias=False)
            linear(f"{at}.mlp.down_proj", inner, hidden, bias=False)
        norm("norm", hidden, bias=False)
        return found

    before = "" if shape.task == "dense" else "bert."
    for name, rows in (("word", ENTRIES), ("position", LONGEST), ("token_type", 2)):
        found[f"{before}embeddings.{name}_embeddings.weight"] = ((rows, hidden), 0.0, hidden**-0.5)
    norm(f"{before}embeddings.LayerNorm", hidden)
    for layer in range(shape.layers):
        at = f"{before}encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            linear(f"{at}.attention.self.{name}", hidden, hidden)
        linear(f"{at}.attention.output.dense", hidden, hidden)
        norm(f"{at}.attention.output.LayerNorm", hidden)
        linear(f"{at}.intermediate.dense", hidden, inner)
        linear(f"{at}.output.dense", inner, hidden)
        norm(f"{at}.output.LayerNorm", hidden)
    if shape.task == "rerank":
        linear("bert.pooler.dense", hidden, hidden)
        linear("classifier", hidden, 1)
    if shape.task == "sparse":
        linear("cls.predictions.transform.dense", hidden, hidden)
        norm("cls.predictions.transform.LayerNorm", hidden)
        # So far below zero that a text keeps some hundred entries, as a trained model's does, and not half of all.
        found["cls.predictions.bias"] = ((ENTRIES,), -4.0, 0.02)
    return found


NAMES = {torch.float16: "F16", torch.float32: "F32"}


def write_safetensors(file: Path, shape: Shape, dtype: torch.dtype, seed: int = 1) -> None:
    """Drawn on the card where there is one, and written one after another, so that no more than one is held."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(seed)
    header, at = {"__metadata__": {"format": "pt"}}, 0
    wanted = tensors(shape)
    for name, (sizes, _, _) in wanted.items():
        size = dtype.itemsize * torch.Size(sizes).numel()
        header[name] = {"dtype": NAMES[dtype], "shape": list(sizes), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for sizes, mean, deviation in wanted.values():
            drawn = torch.randn(sizes, generator=generator, device=device) * deviation + mean
            # NumPy may not be there.
            flat = drawn.to(dtype).cpu().contiguous()
            out.write((ctypes.c_char * flat.nbytes).from_address(flat.data_ptr()))


def config(shape: Shape, dtype: torch.dtype) -> dict:
    common = {
        "dtype": str(dtype).removeprefix("torch."),
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "initializer_range": 0.02,
    }
    if shape.family == "qwen3":
        return common | {
            "architectures": ["Qwen3Model"],
            "model_type": "qwen3",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "eos_token_id": 0,
            "head_dim": shape.width,
            "hidden_act": "silu",
            "max_position_embeddings": 32_768,
            "max_window_layers": shape.layers,
            "num_key_value_heads": shape.kv_heads,
            "rms_norm_eps": 1e-6,
            "rope_scaling": None,
            "rope_theta": 1e6,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "use_cache": False,
            "use_sliding_window": False,
            "vocab_size": len(byte_pairs()[0]),
        }
    classes = {"dense": "BertModel", "sparse": "BertForMaskedLM", "rerank": "BertForSequenceClassification"}
    made = common | {
        "architectures": [classes[shape.task]],
        "model_type": "bert",
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": LONGEST,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "type_vocab_size": 2,
        "vocab_size": ENTRIES,
    }
    if shape.task == "rerank":
        made |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
        made |= {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0"}}
    return made


def tokenizer_config(shape: Shape) -> dict:
    common = {"model_max_length": LONGEST, "tokenizer_class": "PreTrainedTokenizerFast"}
    if shape.family == "qwen3":
        names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
        return common | names | {"model_input_names": ["input_ids", "attention_mask"], "padding_side": "left"}
    names = {f"{role}_token": f"[{role.upper()}]" for role in ("cls", "sep", "pad", "unk", "mask")}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return common | names | {"model_input_names": inputs, "padding_side": "right"}


def lay_out(shape: Shape, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """The folder as sentence-transformers has it, with the class names that its older and newer versions read."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, content: object) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))

    write("config.json", config(shape, dtype))
    write("tokenizer.json", tokenizer_json(shape.family))
    write("tokenizer_config.json", tokenizer_config(shape))
    write_safetensors(folder / "model.safetensors", shape, dtype)
    if shape.task == "rerank":
        return
    models = "sentence_transformers.models"
    chain = [("", f"{models}.Transformer")]
    if shape.task == "sparse":
        sparse = "sentence_transformers.sparse_encoder.models"
        chain = [("", f"{sparse}.MLMTransformer"), ("1_SpladePooling", f"{sparse}.SpladePooling")]
        pooling = {"pooling_strategy": "max", "activation_function": "relu", "word_embedding_dimension": ENTRIES}
        write("1_SpladePooling/config.json", pooling)
        # Without this the library takes the folder for one of dense vectors.
        about = {"model_type": "SparseEncoder", "prompts": {"query": "", "document": ""}}
        write("config_sentence_transformers.json", about | {"default_prompt_name": None, "similarity_fn_name": "dot"})
    else:
        chain += [("1_Pooling", f"{models}.Pooling"), ("2_Normalize", f"{models}.Normalize")]
        flags = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max", "lasttoken": "lasttoken"}
        modes = {f"pooling_mode_{flag}": mode == shape.pooling for flag, mode in flags.items()}
        write("1_Pooling/config.json", {"word_embedding_dimension": shape.hidden, **modes, "include_prompt": True})
        (folder / "2_Normalize").mkdir(exist_ok=True)
    modules = [{"idx": at, "name": str(at), "path": path, "type": kind} for at, (path, kind) in enumerate(chain)]
    write("modules.json", modules)
    write("sentence_bert_config.json", {"max_seq_length": LONGEST, "do_lower_case": False})


# The texts.


class Writer:
    """Composes texts of a number of tokens, special ones included."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.three, self.four, self.suffixes = words()
        self.one = self.three + self.four

    def prose(self, tokens: int) -> str:
        """Words of WordPiece entries; every fifth token or so is a suffix."""
        parts, rng = [], self.rng
        while tokens > 0:
            if tokens >= 2 and rng.random() < 0.25:
                parts.append(rng.choice(self.four) + rng.choice(self.suffixes))
                tokens -= 2
            else:
                parts.append(rng.choice(self.one))
                tokens -= 1
        return " ".join(parts)

    def uniform(self) -> dict:
        return {"text": self.prose(self.rng.randint(16, LONGEST) - 2)}

    def short(self) -> dict:
        """24 tokens in the mean, few of them long."""
        return {"text": self.prose(max(4, min(128, round(self.rng.lognormvariate(3.08, 0.44)))) - 2)}

    def full(self) -> dict:
        return {"text": self.prose(LONGEST - 2)}

    def pairs(self) -> dict:
        """A query keeps for a hundred candidates; `number` counts the pairs."""
        if self.made % 100 == 0:
            self.query_tokens = self.rng.randint(6, 14)
            self.query = self.prose(self.query_tokens)
        tokens = max(32, min(LONGEST, round(self.rng.gauss(190, 40))))
        return {"query": self.query, "document": self.prose(tokens - self.query_tokens - 3)}

    def bytes(self) -> dict:
        """Byte-level entries: the first word has no space before it and is three of them; one token ends the text."""
        return {"text": " ".join(self.rng.choice(self.three) for _ in range(LONGEST - 3))}

    def write(self, kind: str, number: int, file: Path) -> None:
        make = getattr(self, kind)
        with file.open("w") as out:
            for self.made in range(number):
                record = make()
                if kind != "pairs":
                    record = {"id": str(self.made), **record}
                out.write(json.dumps(record) + "\n")


TEXTS = ("uniform", "short", "full", "pairs", "bytes")


def token_ids(text: str, entries: dict[str, int]) -> list[int]:
    """The WordPiece ids of a text that was composed here, without special ones."""
    ids = []
    for word in text.split():
        head, rest = word[:4], word[4:]
        ids.append(entries[head])
        if rest:
            ids.append(entries[f"##{rest}"])
    return ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", help="SHAPE DIR, or with --texts KIND NUMBER FILE")
    parser.add_argument("--texts", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    if arguments.texts:
        kind, number, file = arguments.what
        Writer(1).write(kind, int(number), Path(file))
    else:
        name, folder = arguments.what
        lay_out(SHAPES[name].tiny() if arguments.tiny else SHAPES[name], Path(folder))


if __name__ == "__main__":
    main()
