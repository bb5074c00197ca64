"""Small tokenizers of the families that the models come with, each with the normalizer, the pre-tokenizer and the
special tokens of its family."""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from vocabularies import VOCABULARY, characters_of, count_words, train_bpe, unigram_model, word_piece_model


def with_word_pieces(special: list[str], lowercase: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.model = word_piece_model(tokenizer, special)
    tokenizer.add_special_tokens(special)
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def word_piece(lowercase: bool = True) -> Tokenizer:
    """BERT, DistilBERT, NomicBERT, JinaBERT: `[CLS] $A [SEP] $B [SEP]`."""
    tokenizer = with_word_pieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], lowercase)
    frame(tokenizer, "[CLS]", "[SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    return tokenizer


def mpnet() -> Tokenizer:
    """MPNet: WordPiece between `<s>` and `</s>`, the pairs framed as RoBERTa's are."""
    tokenizer = with_word_pieces(["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>"])
    frame(tokenizer, "<s>", "</s>", "<s> $A </s> </s> $B </s>")
    return tokenizer


def byte_level(special: list[str], split_digits: bool = False) -> Tokenizer:
    """The byte-level BPE that RoBERTa, ModernBERT and Qwen share; the caller frames it."""
    tokenizer = Tokenizer(models.BPE())
    bytes_of_words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if split_digits:
        tokenizer.normalizer = normalizers.NFC()
        digits = pre_tokenizers.Split(Regex(r"\p{N}"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_of_words])
    else:
        tokenizer.pre_tokenizer = bytes_of_words
    train_bpe(tokenizer, special, VOCABULARY, sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def roberta() -> Tokenizer:
    tokenizer = byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    cls, sep = (("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>")))
    tokenizer.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=True, add_prefix_space=False)
    return tokenizer


def modern_bert() -> Tokenizer:
    tokenizer = byte_level(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
    frame(tokenizer, "[CLS]", "[SEP]", "[CLS] $A [SEP] $B [SEP]")
    return tokenizer


def qwen(append_end: bool) -> Tokenizer:
    """Qwen2 and Qwen3. Qwen3-Embedding appends `<|endoftext|>`, the code models and the reranker append nothing."""
    tokenizer = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], split_digits=True)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ("<think>", "</think>")])
    if append_end:
        end = [("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))]
        template = processors.TemplateProcessing(
            single="$A <|endoftext|>", pair="$A <|endoftext|> $B <|endoftext|>", special_tokens=end
        )
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def xlm_roberta() -> Tokenizer:
    """SentencePiece's Unigram between `<s>` and `</s>`."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.model = unigram_model(tokenizer, special)
    tokenizer.add_special_tokens(special)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    frame(tokenizer, "<s>", "</s>", "<s> $A </s> </s> $B </s>")
    return tokenizer


def gemma() -> Tokenizer:
    """BPE over `▁` for the space, unknown characters as bytes, between `<bos>` and `<eos>`."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    alphabet = characters_of(count_words(trained), 40)
    train_bpe(trained, special, VOCABULARY - 256, alphabet, limit_alphabet=len(alphabet))
    model = json.loads(trained.to_str())["model"]
    vocabulary = model["vocab"] | {f"<0x{byte:02X}>": len(model["vocab"]) + byte for byte in range(256)}
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.add_special_tokens(special)
    tokenizer.normalizer = trained.normalizer
    tokenizer.pre_tokenizer = trained.pre_tokenizer
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    frame(tokenizer, "<bos>", "<eos>", "<bos> $A <eos> <bos>:1 $B:1 <eos>:1")
    return tokenizer


def frame(tokenizer: Tokenizer, first: str, last: str, pair: str) -> None:
    special = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=pair, special_tokens=special
    )


SPECIAL = {
    "[CLS]": {f"{role}_token": f"[{role.upper()}]" for role in ("cls", "sep", "pad", "unk", "mask")},
    "<s>": dict(cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>", mask_token="<mask>"),
    "<bos>": {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
    "<|im_start|>": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
}


def wrap(tokenizer: Tokenizer, max_tokens: int, padding_side: str = "right", segments: bool = False):
    """The tokenizer as `transformers` saves and calls it. With `segments` the model takes segment ids."""
    special = next(tokens for mark, tokens in SPECIAL.items() if tokenizer.token_to_id(mark) is not None)
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if segments else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_tokens,
        padding_side=padding_side,
        model_input_names=inputs,
        **special,
    )
