"""Model folders of random weights in the shapes of known models. Only PyTorch is needed.

    model_folder.py SHAPE DIR [--tiny]      SHAPE is one of shapes.SHAPES
"""

import argparse
import ctypes
import json
import struct
from pathlib import Path

import torch

from shapes import LONGEST, SHAPES, Shape
from vocabularies import BERT_ENTRIES, byte_pairs, tokenizer_config, tokenizer_json

# By the dtype of PyTorch, its name in a safetensors file.
DTYPES = {torch.float16: "F16", torch.float32: "F32"}


def tensors(shape: Shape) -> dict[str, tuple[tuple[int, ...], float, float]]:
    """The shape, the mean and the deviation of every tensor, by its name in the family's files."""
    specs = {}

    def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        specs[f"{name}.weight"] = ((outputs, inputs), 0.0, inputs**-0.5)
        if bias:
            specs[f"{name}.bias"] = ((outputs,), 0.0, 0.02)

    def norm(name: str, width: int, bias: bool = True) -> None:
        specs[f"{name}.weight"] = ((width,), 1.0, 0.05)
        if bias:
            specs[f"{name}.bias"] = ((width,), 0.0, 0.05)

    hidden, inner = shape.hidden, shape.inner
    if shape.family == "qwen3":
        queries, keys = shape.heads * shape.width, shape.kv_heads * shape.width
        specs["embed_tokens.weight"] = ((len(byte_pairs()[0]), hidden), 0.0, 1.0)
        for layer in range(shape.layers):
            module = f"layers.{layer}"
            norm(f"{module}.input_layernorm", hidden, bias=False)
            norm(f"{module}.post_attention_layernorm", hidden, bias=False)
            for name, outputs in (("q", queries), ("k", keys), ("v", keys)):
                linear(f"{module}.self_attn.{name}_proj", hidden, outputs, bias=False)
            linear(f"{module}.self_attn.o_proj", queries, hidden, bias=False)
            norm(f"{module}.self_attn.q_norm", shape.width, bias=False)
            norm(f"{module}.self_attn.k_norm", shape.width, bias=False)
            linear(f"{module}.mlp.gate_proj", hidden, inner, bias=False)
            linear(f"{module}.mlp.up_proj", hidden, inner, bias=False)
            linear(f"{module}.mlp.down_proj", inner, hidden, bias=False)
        norm("norm", hidden, bias=False)
        return specs

    prefix = "" if shape.task == "dense" else "bert."
    for name, rows in (("word", BERT_ENTRIES), ("position", LONGEST), ("token_type", 2)):
        specs[f"{prefix}embeddings.{name}_embeddings.weight"] = ((rows, hidden), 0.0, hidden**-0.5)
    norm(f"{prefix}embeddings.LayerNorm", hidden)
    for layer in range(shape.layers):
        module = f"{prefix}encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            linear(f"{module}.attention.self.{name}", hidden, hidden)
        linear(f"{module}.attention.output.dense", hidden, hidden)
        norm(f"{module}.attention.output.LayerNorm", hidden)
        linear(f"{module}.intermediate.dense", hidden, inner)
        linear(f"{module}.output.dense", inner, hidden)
        norm(f"{module}.output.LayerNorm", hidden)
    if shape.task == "rerank":
        linear("bert.pooler.dense", hidden, hidden)
        linear("classifier", hidden, 1)
    if shape.task == "sparse":
        linear("cls.predictions.transform.dense", hidden, hidden)
        norm("cls.predictions.transform.LayerNorm", hidden)
        # So far below zero that a text has some hundred entries, as in a trained model, and not half of the vocabulary.
        specs["cls.predictions.bias"] = ((BERT_ENTRIES,), -4.0, 0.02)
    return specs


def write_safetensors(file: Path, shape: Shape, dtype: torch.dtype, seed: int = 1) -> None:
    """Draws the tensors on the GPU if there is one, and writes one after another, so that memory holds only one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(seed)
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    specs = tensors(shape)
    for name, (sizes, _, _) in specs.items():
        size = dtype.itemsize * torch.Size(sizes).numel()
        header[name] = {"dtype": DTYPES[dtype], "shape": list(sizes), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for sizes, mean, deviation in specs.values():
            drawn = torch.randn(sizes, generator=generator, device=device) * deviation + mean
            # Without NumPy, which may not be installed.
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
    bert = common | {
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
        "vocab_size": BERT_ENTRIES,
    }
    if shape.task == "rerank":
        bert |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
        bert |= {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0"}}
    return bert


def write_model(shape: Shape, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes the folder as sentence-transformers saves it, with class names that its older and newer versions read."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, content: object) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))

    write("config.json", config(shape, dtype))
    write("tokenizer.json", tokenizer_json(shape.family))
    write("tokenizer_config.json", tokenizer_config(shape.family, LONGEST))
    write_safetensors(folder / "model.safetensors", shape, dtype)
    if shape.task == "rerank":
        return
    models = "sentence_transformers.models"
    chain = [("", f"{models}.Transformer")]
    if shape.task == "sparse":
        sparse = "sentence_transformers.sparse_encoder.models"
        chain = [("", f"{sparse}.MLMTransformer"), ("1_SpladePooling", f"{sparse}.SpladePooling")]
        pooling = {"pooling_strategy": "max", "activation_function": "relu", "word_embedding_dimension": BERT_ENTRIES}
        write("1_SpladePooling/config.json", pooling)
        # Without this the library reads the folder as a dense model.
        library = {"model_type": "SparseEncoder", "prompts": {"query": "", "document": ""}}
        write("config_sentence_transformers.json", library | {"default_prompt_name": None, "similarity_fn_name": "dot"})
    else:
        chain += [("1_Pooling", f"{models}.Pooling"), ("2_Normalize", f"{models}.Normalize")]
        flags = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max", "lasttoken": "lasttoken"}
        modes = {f"pooling_mode_{flag}": mode == shape.pooling for flag, mode in flags.items()}
        write("1_Pooling/config.json", {"word_embedding_dimension": shape.hidden, **modes, "include_prompt": True})
        (folder / "2_Normalize").mkdir(exist_ok=True)
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": kind} for index, (path, kind) in enumerate(chain)
    ]
    write("modules.json", modules)
    write("sentence_bert_config.json", {"max_seq_length": LONGEST, "do_lower_case": False})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true", help="a small model of the same kind")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    write_model(shape.tiny() if arguments.tiny else shape, arguments.folder)


if __name__ == "__main__":
    main()
