"""Sizes of the small random models, and the options that several model classes share.

An architecture's options are those of its `transformers` configuration. Where a task needs others, the case adds them.
"""

from vocabularies import VOCABULARY

HIDDEN = 64
HEADS = 4
MAX_TOKENS = 96
LONG = 128  # tokens, where no table of positions limits them
WINDOW = 16  # tokens that local attention sees

# An epsilon as large as this shows in the vectors when it is ignored.
EPSILON = 0.01


def bert_options(layers: int, hidden: int = HIDDEN) -> dict:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "intermediate_size": hidden + 16,
        "max_position_embeddings": MAX_TOKENS,
        "layer_norm_eps": EPSILON,
    }


def roberta_options(layers: int) -> dict:
    """Positions start after the padding's index, so there are two more than tokens."""
    return bert_options(layers) | {
        "max_position_embeddings": MAX_TOKENS + 2,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }


def distilbert_options(layers: int) -> dict:
    return {
        "vocab_size": VOCABULARY,
        "dim": HIDDEN,
        "n_layers": layers,
        "n_heads": HEADS,
        "hidden_dim": 80,
        "max_position_embeddings": MAX_TOKENS,
    }


def modern_bert_options(layers: int, inner: int) -> dict:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "intermediate_size": inner,
        "max_position_embeddings": LONG,
        "norm_eps": EPSILON,
        "local_attention": WINDOW,
        "pad_token_id": 3,
        "bos_token_id": 1,
        "cls_token_id": 1,
        "eos_token_id": 2,
        "sep_token_id": 2,
    }


def qwen_options(max_tokens: int) -> dict:
    return {
        "vocab_size": VOCABULARY + 2,
        "hidden_size": HIDDEN,
        "num_hidden_layers": 3,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": max_tokens,
        "rms_norm_eps": EPSILON,
        "tie_word_embeddings": True,
    }
