"""Makes the dense cases: small random models of every architecture, and the vectors that the reference gives.

    "$(../../scripts/python-env.sh parity)" make_dense.py [CASE...]
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, StaticEmbedding, Transformer
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    GteConfig,
    GteModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    NomicBertConfig,
    NomicBertModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3Model,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

import reference_jina_bert as jina
import tokenizer_families as family
from common import (
    EPSILON,
    SENTENCE_TRANSFORMERS,
    Cases,
    edit_json,
    say_spread,
    shape,
    text_records,
    token_counter,
    write_case,
    write_json,
)
from texts import texts_for

HIDDEN = 64
NARROW = 48  # where the encoder is not what a case is about
HEADS = 4
MAX_TOKENS = 96
LONG = 128  # tokens, where no table of positions limits them
WINDOW = 16  # tokens that local attention sees

cases = Cases()


def save_model(folder: Path, model, tokenizer, after: list[nn.Module], **options) -> None:
    """Lays out a model folder as `sentence-transformers` saves it; the configuration and the weights as `transformers`
    alone saves them, which keeps the tensor names of the class that `model` is."""
    with tempfile.TemporaryDirectory() as encoder:
        model.save_pretrained(encoder)
        tokenizer.save_pretrained(encoder)
        modules = [Transformer(encoder), *after]
        SentenceTransformer(modules=modules, device="cpu", **options).save_pretrained(
            str(folder), create_model_card=False
        )
        for name in ("config.json", "model.safetensors"):
            shutil.copy(Path(encoder) / name, folder / name)


def finish(
    folder: Path,
    seed: int,
    special: tuple[str, ...] = (),
    prompt_name: str | None = None,
    prompt: str | None = None,
    truncate_dim: int | None = None,
    padded: bool = True,
    reference: str = SENTENCE_TRANSFORMERS,
    prepare: Callable[[SentenceTransformer], None] = lambda model: None,
) -> None:
    """Reads the folder back as any user would and writes what the reference makes of the texts.

    A prompt is one of the folder's, by its name, or a text; without either the folder's default applies. A width to cut
    vectors to implies that they are normalised again. `padded` says whether padding leaves the reference's own vectors
    as they are.
    """
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    prepare(model)
    tokenizer = model[0].tokenizer
    max_tokens = model.max_seq_length
    texts = texts_for(token_counter(tokenizer), max_tokens, seed, special)
    options = {"prompt_name": prompt_name, "prompt": prompt, "truncate_dim": truncate_dim}
    vectors = encode(model, texts, padded, normalize_embeddings=truncate_dim is not None, **options)
    say_spread(folder.name, vectors)
    case = {"task": "dense", "reference": f"{reference}, float64", "max_tokens": max_tokens}
    case["bfloat16"] = cosine_in_bfloat16(model, texts, vectors, **options)
    case |= {name: value for name, value in options.items() if value is not None}
    before = prompt or model.prompts.get(prompt_name or model.default_prompt_name, "")
    write_case(folder, case, text_records(tokenizer, texts, max_tokens, before), {"vectors": vectors})


def encode(model: SentenceTransformer, texts: list[str], padded: bool = True, **options) -> np.ndarray:
    """Vectors of the texts, each encoded alone and in double precision. In single precision, and in batches where they
    are `padded`, the reference has to agree with that."""
    in_single = model.encode(texts, batch_size=7 if padded else 1, **options)
    vectors = model.double().encode(texts, batch_size=1, **options)
    difference = np.abs(vectors - in_single).max()
    assert difference < 1e-5, f"padding and precision change the reference by {difference}"
    return vectors


def cosine_in_bfloat16(model: SentenceTransformer, texts: list[str], vectors: np.ndarray, **options) -> float:
    """The least cosine of the reference's own vectors in bfloat16 to those in double precision. Random weights amplify
    rounding; how much is a property of the model, which an encoder can be measured by."""
    rounded = model.bfloat16().encode(texts, batch_size=1, **options)
    norms = np.linalg.norm(rounded, axis=1) * np.linalg.norm(vectors, axis=1)
    # A text without a token has a vector of zeros.
    cosines = (rounded * vectors).sum(axis=1)[norms > 0] / norms[norms > 0]
    return round(float(cosines.min()), 5)


def bert(seed: int, layers: int = 3, hidden: int = HIDDEN, **options) -> BertModel:
    config = BertConfig(
        vocab_size=family.VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        intermediate_size=hidden + 16,
        max_position_embeddings=MAX_TOKENS,
        layer_norm_eps=EPSILON,
        **options,
    )
    return shape(BertModel(config, add_pooling_layer=False), seed)


def bert_tokenizer(**options):
    return family.wrap(family.word_piece(), MAX_TOKENS, segments=True, **options)


@cases.case("bert-cls")
def bert_cls(folder: Path) -> None:
    save_model(folder, bert(101), bert_tokenizer(), [Pooling(HIDDEN, "cls"), Normalize()])
    finish(folder, 101, special=("[SEP]", "[PAD]", "[MASK]"))


@cases.case("bert-mean")
def bert_mean(folder: Path) -> None:
    """Not normalised; the tokenizer's file holds a padding and a truncation that do not apply."""
    tokenizer = bert_tokenizer()
    tokenizer.backend_tokenizer.enable_padding(length=48)
    tokenizer.backend_tokenizer.enable_truncation(32)
    save_model(folder, bert(141), tokenizer, [Pooling(HIDDEN, "mean")])
    finish(folder, 141)


def roberta_options(max_tokens: int) -> dict:
    """Positions start after the padding's index, so there are two more than tokens."""
    return {
        "vocab_size": family.VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": 3,
        "num_attention_heads": HEADS,
        "intermediate_size": 80,
        "max_position_embeddings": max_tokens + 2,
        "type_vocab_size": 1,
        "layer_norm_eps": EPSILON,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }


@cases.case("roberta-mean")
def roberta_mean(folder: Path) -> None:
    model = RobertaModel(RobertaConfig(**roberta_options(MAX_TOKENS)), add_pooling_layer=False)
    tokenizer = family.wrap(family.roberta(), MAX_TOKENS)
    save_model(folder, shape(model, 148), tokenizer, [Pooling(HIDDEN, "mean"), Normalize()])
    finish(folder, 148, special=("</s>", "<pad>", "<mask>"))


@cases.case("distilbert-mean")
def distilbert_mean(folder: Path) -> None:
    config = DistilBertConfig(
        vocab_size=family.VOCABULARY,
        dim=HIDDEN,
        n_layers=3,
        n_heads=HEADS,
        hidden_dim=80,
        max_position_embeddings=MAX_TOKENS,
    )
    tokenizer = family.wrap(family.word_piece(lowercase=False), MAX_TOKENS)
    save_model(folder, shape(DistilBertModel(config), 104), tokenizer, [Pooling(HIDDEN, "mean")])
    finish(folder, 104)


@cases.case("mpnet-mean")
def mpnet_mean(folder: Path) -> None:
    config = MPNetConfig(
        vocab_size=family.VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        intermediate_size=80,
        max_position_embeddings=MAX_TOKENS + 2,
        layer_norm_eps=EPSILON,
        relative_attention_num_buckets=32,
    )
    tokenizer = family.wrap(family.mpnet(), MAX_TOKENS)
    model = shape(MPNetModel(config, add_pooling_layer=False), 105)
    save_model(folder, model, tokenizer, [Pooling(HIDDEN, "mean"), Normalize()])
    finish(folder, 105, special=("<pad>",))


@cases.case("xlm-roberta-cls")
def xlm_roberta_cls(folder: Path) -> None:
    """As bge-m3 and multilingual-e5 are."""
    model = XLMRobertaModel(XLMRobertaConfig(**roberta_options(MAX_TOKENS)), add_pooling_layer=False)
    tokenizer = family.wrap(family.xlm_roberta(), MAX_TOKENS)
    save_model(folder, shape(model, 106), tokenizer, [Pooling(HIDDEN, "cls"), Normalize()])
    finish(folder, 106, special=("<pad>",))


@cases.case("modernbert-mean")
def modernbert_mean(folder: Path) -> None:
    """Global attention in layers 0 and 3, local in 1 and 2, each with its own rotary base."""
    config = ModernBertConfig(
        vocab_size=family.VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=4,
        num_attention_heads=HEADS,
        intermediate_size=64,
        max_position_embeddings=LONG,
        norm_eps=EPSILON,
        local_attention=WINDOW,
        global_attn_every_n_layers=3,
        pad_token_id=3,
        bos_token_id=1,
        cls_token_id=1,
        eos_token_id=2,
        sep_token_id=2,
    )
    tokenizer = family.wrap(family.modern_bert(), LONG)
    save_model(folder, shape(ModernBertModel(config), 107), tokenizer, [Pooling(HIDDEN, "mean"), Normalize()])
    finish(folder, 107, special=("[SEP]", "[PAD]"))


def qwen_options() -> dict:
    return {
        "vocab_size": family.VOCABULARY + 2,
        "hidden_size": HIDDEN,
        "num_hidden_layers": 3,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": LONG,
        "rms_norm_eps": EPSILON,
        "tie_word_embeddings": True,
    }


def rope_keys_of_the_hub(config: dict) -> None:
    """The rotary base as configurations before `transformers` 5 have it."""
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None


@cases.case("qwen3-last-token")
def qwen3_last_token(folder: Path) -> None:
    """As Qwen3-Embedding is: causal, an end token appended, left padding, a prompt for queries."""
    config = Qwen3Config(head_dim=24, rope_theta=1_000_000.0, **qwen_options())
    tokenizer = family.wrap(family.qwen(append_end=True), LONG, padding_side="left")
    prompt = "Instruct: Given a search query, retrieve the passages that answer it\nQuery:"
    prompts = {"query": prompt, "document": ""}
    modules = [Pooling(HIDDEN, "lasttoken"), Normalize()]
    save_model(folder, shape(Qwen3Model(config), 108), tokenizer, modules, prompts=prompts)
    edit_json(folder / "config.json", rope_keys_of_the_hub)
    finish(folder, 108, special=("<|endoftext|>",), prompt_name="query")


@cases.case("qwen2-last-token")
def qwen2_last_token(folder: Path) -> None:
    """As jina-code-embeddings is: the tensors of a causal language model, no special tokens."""
    config = Qwen2Config(**qwen_options())
    tokenizer = family.wrap(family.qwen(append_end=False), LONG, padding_side="left")
    prompts = {"nl2code_query": "Find the code for this:\n", "nl2code_document": "Candidate code:\n"}
    modules = [Pooling(HIDDEN, "lasttoken"), Normalize()]
    save_model(folder, shape(Qwen2ForCausalLM(config), 109), tokenizer, modules, prompts=prompts)
    finish(folder, 109)


def gemma3(seed: int, layers: int, window_pattern: int) -> Gemma3TextModel:
    config = Gemma3TextConfig(
        vocab_size=family.VOCABULARY,
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
    return shape(Gemma3TextModel(config), seed)


def gemma_modules(seed: int) -> list[nn.Module]:
    def dense(inner: int, outer: int) -> Dense:
        return shape(Dense(inner, outer, bias=False, activation_function=nn.Identity()), seed + inner)

    return [Pooling(HIDDEN, "mean"), dense(HIDDEN, 96), dense(96, HIDDEN), Normalize()]


GEMMA_PROMPTS = {"query": "task: search result | query: ", "document": "title: none | text: "}


@cases.case("gemma3-mean")
def gemma3_mean(folder: Path) -> None:
    """As EmbeddingGemma is: local attention but in the third layer, both directions, two dense layers after pooling."""

    def keys_of_the_hub(config: dict) -> None:
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope["full_attention"]["rope_theta"]
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        config["rope_scaling"] = None

    tokenizer = family.wrap(family.gemma(), LONG)
    save_model(folder, gemma3(110, 4, 3), tokenizer, gemma_modules(110), prompts=GEMMA_PROMPTS)
    edit_json(folder / "config.json", keys_of_the_hub)
    finish(folder, 110, special=("<eos>", "<pad>"), prompt_name="document")


@cases.case("gemma3-mean-saved")
def gemma3_mean_saved(folder: Path) -> None:
    """The same with a configuration as `transformers` 5 saves it."""
    tokenizer = family.wrap(family.gemma(), LONG, padding_side="left")
    save_model(folder, gemma3(111, 2, 2), tokenizer, gemma_modules(111), prompts=GEMMA_PROMPTS)
    finish(folder, 111, prompt_name="query")


def nomic_bert(seed: int, layers: int) -> NomicBertModel:
    """The vocabulary is padded beyond the tokenizer's, as the published ones are."""
    config = NomicBertConfig(
        vocab_size=family.VOCABULARY + 16,
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        intermediate_size=80,
        max_position_embeddings=LONG,
        layer_norm_eps=EPSILON,
    )
    return shape(NomicBertModel(config), seed)


NOMIC_PROMPTS = {"search_query": "search_query: ", "search_document": "search_document: "}


@cases.case("nomic-bert-mean")
def nomic_bert_mean(folder: Path) -> None:
    """As nomic-embed-text and CodeRankEmbed are published; `transformers` saves their tensor names, the keys of their
    configuration are written here."""
    tokenizer = family.wrap(family.word_piece(), LONG, segments=True)
    modules = [Pooling(HIDDEN, "mean"), Normalize()]
    save_model(folder, nomic_bert(112, 3), tokenizer, modules, prompts=NOMIC_PROMPTS)
    finish(folder, 112, prompt=NOMIC_PROMPTS["search_document"])
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
            "vocab_size": family.VOCABULARY + 16,
        },
    )


@cases.case("nomic-bert-mean-saved")
def nomic_bert_mean_saved(folder: Path) -> None:
    """The same with a configuration as `transformers` 5 saves it."""
    tokenizer = family.wrap(family.word_piece(), LONG, segments=True)
    save_model(folder, nomic_bert(113, 2), tokenizer, [Pooling(HIDDEN, "mean")], prompts=NOMIC_PROMPTS)
    finish(folder, 113)


@cases.case("jina-bert-v2-mean")
def jina_bert_v2_mean(folder: Path) -> None:
    """As jina-embeddings-v2-base-en is; six heads, whose ALiBi slopes are not one geometric series."""
    config = jina.config(family.VOCABULARY, hidden=72, heads=6, layers=2, inner=64, epsilon=EPSILON)
    jina.write(folder, config, family.wrap(family.word_piece(), LONG, segments=True), seed=114, normalize=False)


@cases.case("jina-bert-v2-qk-norm-mean")
def jina_bert_v2_qk_norm_mean(folder: Path) -> None:
    """As jina-embeddings-v2-base-code is: norms of the queries and keys, other tensor names."""
    config = jina.config(family.VOCABULARY, hidden=64, heads=4, layers=3, inner=64, epsilon=EPSILON, qk_norm=True)
    jina.write(folder, config, family.wrap(family.roberta(), LONG), seed=115, normalize=True)


def gte(seed: int, layers: int, **options) -> GteModel:
    config = GteConfig(
        vocab_size=family.VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        intermediate_size=64,
        max_position_embeddings=LONG,
        layer_norm_eps=EPSILON,
        pad_token_id=0,
        **options,
    )
    return shape(GteModel(config), seed)


def scale_rope(theta: float, factor: float) -> Callable[[SentenceTransformer], None]:
    """NTK scaling as the published code of the `new` models has it, which `transformers` has not: the base is
    multiplied by the factor, and the frequencies are divided by factor^(2 / head size)."""

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
        "vocab_size": family.VOCABULARY,
    }


NEW_REFERENCE = f"{SENTENCE_TRANSFORMERS} (GteModel, its rotary frequencies scaled here)"


@cases.case("new-cls")
def new_cls(folder: Path) -> None:
    """As gte-base-en-v1.5 is: no segments, NTK scaling."""
    tokenizer = family.wrap(family.word_piece(), LONG)
    modules = [Pooling(HIDDEN, "cls"), Normalize()]
    save_model(folder, gte(116, 3, type_vocab_size=0), tokenizer, modules)
    finish(folder, 116, reference=NEW_REFERENCE, prepare=scale_rope(500_000.0, 2.0))
    write_json(folder / "config.json", new_config(3, 0, 500_000.0, 2.0))


@cases.case("new-cls-prefixed")
def new_cls_prefixed(folder: Path) -> None:
    """As gte-multilingual-base is: a segment table, the tensors named `new.*`, beside them a token classifier that is
    of no concern here."""
    tokenizer = family.wrap(family.word_piece(), LONG, segments=True)
    save_model(folder, gte(117, 2, type_vocab_size=1), tokenizer, [Pooling(HIDDEN, "cls")])
    finish(folder, 117, reference=NEW_REFERENCE, prepare=scale_rope(20_000.0, 8.0))
    weights = folder / "model.safetensors"
    tensors = {f"new.{name}": tensor for name, tensor in load_file(weights).items()}
    tensors |= {"classifier.weight": np.ones((1, HIDDEN), np.float32), "classifier.bias": np.ones(1, np.float32)}
    save_file(tensors, weights, metadata={"format": "pt"})
    config = new_config(2, 1, 20_000.0, 8.0) | {"architectures": ["NewForTokenClassification"]}
    write_json(folder / "config.json", config)


@cases.case("bert-max")
def bert_max(folder: Path) -> None:
    model = bert(121, layers=2, hidden=NARROW, hidden_act="relu")
    save_model(folder, model, bert_tokenizer(), [Pooling(NARROW, "max")])
    finish(folder, 121)


@cases.case("bert-weighted-mean")
def bert_weighted_mean(folder: Path) -> None:
    model = bert(143, layers=2, hidden=NARROW, hidden_act="gelu_new")
    save_model(folder, model, bert_tokenizer(), [Pooling(NARROW, "weightedmean")])
    finish(folder, 143)


@cases.case("bert-last-token")
def bert_last_token(folder: Path) -> None:
    """Padding on the left, which moves the reference's own positions: its answer is that for a text alone."""
    model = bert(123, layers=2, hidden=NARROW, hidden_act="gelu_pytorch_tanh")
    save_model(folder, model, bert_tokenizer(padding_side="left"), [Pooling(NARROW, "lasttoken")])
    finish(folder, 123, padded=False)


@cases.case("bert-dense-tanh")
def bert_dense_tanh(folder: Path) -> None:
    """As LaBSE is, with another width after the dense layer."""
    dense = shape(Dense(NARROW, 40), 1240)
    modules = [Pooling(NARROW, "cls"), dense, Normalize()]
    save_model(folder, bert(124, layers=2, hidden=NARROW), bert_tokenizer(), modules)
    finish(folder, 124)


@cases.case("bert-truncated-dimensions")
def bert_truncated_dimensions(folder: Path) -> None:
    """A matryoshka width: cut after the whole chain and normalised again."""
    save_model(folder, bert(125, layers=2, hidden=NARROW), bert_tokenizer(), [Pooling(NARROW, "mean"), Normalize()])
    finish(folder, 125, truncate_dim=24)


@cases.case("bert-default-prompt")
def bert_default_prompt(folder: Path) -> None:
    """A prompt that applies without being named."""
    prompts = {"prompts": {"similarity": "find alike: "}, "default_prompt_name": "similarity"}
    save_model(folder, bert(126, layers=2, hidden=NARROW), bert_tokenizer(), [Pooling(NARROW, "mean")], **prompts)
    # Versions before 5 leave the empty prompts out, which otherwise count as named.
    edit_json(folder / "config_sentence_transformers.json", lambda config: config.update(prompts))
    finish(folder, 126)


@cases.case("bert-prompt-not-pooled")
def bert_prompt_not_pooled(folder: Path) -> None:
    """As INSTRUCTOR is: the prompt is attended to and left out of the mean."""
    pooling = Pooling(NARROW, "mean", include_prompt=False)
    prompts = {"prompts": {"query": "Represent the question for retrieval: ", "passage": ""}}
    save_model(folder, bert(150, layers=2, hidden=NARROW), bert_tokenizer(), [pooling, Normalize()], **prompts)
    finish(folder, 150, prompt_name="query")


@cases.case("static-embedding")
def static_embedding(folder: Path) -> None:
    """No special tokens and no limit; a text without tokens is the zero vector."""
    module = shape_static(StaticEmbedding(family.word_piece(), embedding_dim=HIDDEN), 128)
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(folder), create_model_card=False)
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def count(text: str) -> int:
        return len(model[0].tokenizer.encode(text, add_special_tokens=False).ids)

    texts = [*texts_for(count, LONG, 128), "", "\u200b"]
    vectors = model.double().encode(texts, batch_size=1)
    assert not vectors[-2:].any()
    case = {"task": "dense", "reference": f"{SENTENCE_TRANSFORMERS}, float64", "max_tokens": None}
    records = [{"text": text, "tokens": count(text), "lost": 0} for text in texts]
    say_spread(folder.name, vectors[:-2])
    write_case(folder, case, records, {"vectors": vectors})


def shape_static(module: StaticEmbedding, seed: int) -> StaticEmbedding:
    values = np.random.default_rng(seed).standard_normal((module.num_embeddings, module.embedding_dim))
    module.embedding.weight.data = torch.from_numpy(values.astype(np.float32))
    return module


if __name__ == "__main__":
    cases.main()
