"""JinaBERT v2, which is published as remote code and is not in `transformers`: a NumPy reference in double precision,
one text at a time, without padding and masks.

It follows the published definitions, `jina-bert-implementation` (jina-embeddings-v2-small/base-en) and
`jina-bert-v2-qk-post-norm` (jina-embeddings-v2-base-code), with their tensor names and configuration keys. Both are
BERT without position embeddings: ALiBi biases, symmetric around each token, are added to the attention scores, and the
feed-forward network is gated. The second also norms queries and keys over all heads together, names the feed-forward
network's tensors otherwise, and gates with the other half.
"""

import math
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from scipy.special import erf

from case_files import check_vectors_differ, text_records, token_counter, write_case, write_json
from texts import texts_for


def config(
    vocabulary: int, hidden: int, heads: int, layers: int, inner: int, epsilon: float, qk_norm: bool = False
) -> dict:
    code = "jinaai/jina-bert-v2-qk-post-norm" if qk_norm else "jinaai/jina-bert-implementation"
    return {
        "_name_or_path": code,
        "architectures": ["JinaBertForMaskedLM"],
        "attention_probs_dropout_prob": 0.0,
        "attn_implementation": "torch",
        "auto_map": {
            "AutoConfig": f"{code}--configuration_bert.JinaBertConfig",
            "AutoModel": f"{code}--modeling_bert.JinaBertModel",
        },
        "emb_pooler": "mean",
        "feed_forward_type": "geglu",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "layer_norm_eps": epsilon,
        "max_position_embeddings": 8192,
        "model_type": "bert",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": 1 if qk_norm else 0,
        "position_embedding_type": "alibi",
        "type_vocab_size": 2,
        "vocab_size": vocabulary,
    }


def is_qk_norm(config: dict) -> bool:
    return "qk-post-norm" in config["auto_map"]["AutoModel"]


def random_tensors(config: dict, seed: int) -> dict[str, np.ndarray]:
    """Weights with the same deviations as `random_weights.draw_weights` draws."""
    rng = np.random.default_rng(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    tensors = {}

    def draw(name: str, mean: float, deviation: float, *sizes: int) -> None:
        tensors[name] = (mean + deviation * rng.standard_normal(sizes)).astype(np.float32)

    def norm(module: str) -> None:
        draw(f"{module}.weight", 1.0, 0.3, hidden)
        draw(f"{module}.bias", 0.0, 0.3, hidden)

    def linear(module: str, outputs: int, inputs: int, bias: bool = True, gain: float = 2.5) -> None:
        draw(f"{module}.weight", 0.0, gain / math.sqrt(inputs), outputs, inputs)
        if bias:
            draw(f"{module}.bias", 0.0, 0.3, outputs)

    draw("embeddings.word_embeddings.weight", 0.0, 1.0, config["vocab_size"], hidden)
    draw("embeddings.token_type_embeddings.weight", 0.0, 1.0, config["type_vocab_size"], hidden)
    norm("embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        module = f"encoder.layer.{layer}"
        for part, gain in (("query", 1.6), ("key", 1.6), ("value", 2.5)):
            linear(f"{module}.attention.self.{part}", hidden, hidden, gain=gain)
        linear(f"{module}.attention.output.dense", hidden, hidden)
        norm(f"{module}.attention.output.LayerNorm")
        if is_qk_norm(config):
            norm(f"{module}.attention.self.layer_norm_q")
            norm(f"{module}.attention.self.layer_norm_k")
            linear(f"{module}.mlp.up_gated_layer", 2 * inner, hidden, bias=False, gain=1.5)
            linear(f"{module}.mlp.down_layer", hidden, inner)
            norm(f"{module}.layer_norm_1")
            norm(f"{module}.layer_norm_2")
        else:
            linear(f"{module}.mlp.gated_layers", 2 * inner, hidden, bias=False, gain=1.5)
            linear(f"{module}.mlp.wo", hidden, inner)
            norm(f"{module}.mlp.layernorm")
    return tensors


def alibi_slopes(heads: int) -> np.ndarray:
    """One slope per head. For a power of two a geometric series from 2^(-8/heads); otherwise that of the next lower
    power of two, followed by every second slope of the series of twice that power."""

    def series(count: int) -> list[float]:
        return [2 ** (-8 * (head + 1) / count) for head in range(count)]

    power = 2 ** math.floor(math.log2(heads))
    return np.array(series(power) + series(2 * power)[0::2][: heads - power])


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


class JinaBert:
    def __init__(self, config: dict, tensors: dict[str, np.ndarray]):
        self.config = config
        self.tensors = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
        self.qk_norm = is_qk_norm(config)

    def linear(self, x: np.ndarray, module: str) -> np.ndarray:
        return x @ self.tensors[f"{module}.weight"].T + self.tensors.get(f"{module}.bias", 0.0)

    def norm(self, x: np.ndarray, module: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        return scaled * self.tensors[f"{module}.weight"] + self.tensors[f"{module}.bias"]

    def attention(self, x: np.ndarray, module: str) -> np.ndarray:
        heads = self.config["num_attention_heads"]
        query, key, value = (self.linear(x, f"{module}.self.{part}") for part in ("query", "key", "value"))
        if self.qk_norm:
            query = self.norm(query, f"{module}.self.layer_norm_q")
            key = self.norm(key, f"{module}.self.layer_norm_k")
        query, key, value = (part.reshape(len(x), heads, -1).transpose(1, 0, 2) for part in (query, key, value))
        positions = np.arange(len(x))
        distances = np.abs(positions[:, None] - positions[None, :])
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        scores -= alibi_slopes(heads)[:, None, None] * distances
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        context = (weights @ value).transpose(1, 0, 2).reshape(x.shape)
        return self.norm(x + self.linear(context, f"{module}.output.dense"), f"{module}.output.LayerNorm")

    def feed_forward(self, x: np.ndarray, module: str) -> np.ndarray:
        inner = self.config["intermediate_size"]
        if self.qk_norm:
            both = self.linear(x, f"{module}.mlp.up_gated_layer")
            return self.linear(both[:, :inner] * gelu(both[:, inner:]), f"{module}.mlp.down_layer")
        both = self.linear(x, f"{module}.mlp.gated_layers")
        return self.linear(gelu(both[:, :inner]) * both[:, inner:], f"{module}.mlp.wo")

    def hidden(self, ids: list[int]) -> np.ndarray:
        """Token vectors, [tokens, hidden size]."""
        x = self.tensors["embeddings.word_embeddings.weight"][ids]
        x = self.norm(x + self.tensors["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(self.config["num_hidden_layers"]):
            module = f"encoder.layer.{layer}"
            attended = self.attention(x, f"{module}.attention")
            if self.qk_norm:
                # The input is added a second time, to an attention output that holds it already.
                x = self.norm(x + attended, f"{module}.layer_norm_1")
                x = self.norm(x + self.feed_forward(x, module), f"{module}.layer_norm_2")
            else:
                x = self.norm(attended + self.feed_forward(attended, module), f"{module}.mlp.layernorm")
        return x


def write_case_folder(folder: Path, config: dict, tokenizer, seed: int, normalize: bool) -> None:
    """Writes a model folder as these models are published, with the older form of the pooling configuration, and the
    case with the vectors of the NumPy reference."""
    tensors = random_tensors(config, seed)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", config)
    tokenizer.save_pretrained(folder)
    max_tokens = tokenizer.model_max_length
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    kinds = ["Transformer", "Pooling"] + ["Normalize"] * normalize
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": index, "name": str(index), "path": paths[index], "type": f"sentence_transformers.models.{kind}"}
        for index, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    (folder / "1_Pooling").mkdir()
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    pooling = {"word_embedding_dimension": config["hidden_size"]}
    pooling |= {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in modes}
    write_json(folder / "1_Pooling" / "config.json", pooling)

    model = JinaBert(config, tensors)
    texts = texts_for(token_counter(tokenizer), max_tokens, seed)
    encodings = (tokenizer(text, truncation=True)["input_ids"] for text in texts)
    vectors = np.stack([model.hidden(ids).mean(0) for ids in encodings])
    if normalize:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    check_vectors_differ(folder.name, vectors)
    case = {
        "task": "dense",
        "reference": "reference_jina_bert.py, float64, written from the published definition",
        "max_tokens": max_tokens,
    }
    write_case(folder, case, text_records(tokenizer, texts, max_tokens), {"vectors": vectors})
