"""Small tokenizers of the families that the models come with: a few hundred entries each, drawn from texts composed
here, with the normalizer, the pre-tokenizer and the special tokens that the family has.

Vocabularies have to come out the same each time. The library's trainer for BPE does that once it is given its alphabet;
those for WordPiece and Unigram do not, so that their entries are chosen here, by how much text they cover.
"""

import json
import math
from collections import Counter

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from texts import training_texts

VOCABULARY = 320


def words_of(tokenizer: Tokenizer) -> Counter[str]:
    """How often the pre-tokenizer meets each word."""
    words = Counter()
    for text in training_texts():
        normalized = tokenizer.normalizer.normalize_str(text)
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized))
    return words


def first(counts: Counter[str], number: int, weigh=len) -> list[str]:
    """The entries that cover most text."""
    return sorted(counts, key=lambda entry: (-counts[entry] * weigh(entry), entry))[:number]


def characters_of(words: Counter[str], number: int) -> list[str]:
    counts = Counter()
    for word, count in words.items():
        counts.update({character: word.count(character) * count for character in word})
    return sorted(first(counts, number))


def substrings_of(words: Counter[str], characters: list[str], longest: int) -> Counter[tuple[bool, str]]:
    """Parts of words of two characters or more that consist of these characters; whether they begin a word."""
    known = set(characters)
    counts = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 2, min(start + longest, len(word)) + 1):
                if known.issuperset(word[start:end]):
                    counts[start == 0, word[start:end]] += count
    return counts


def word_piece_model(tokenizer: Tokenizer, special: list[str], alphabet: int = 80) -> models.WordPiece:
    words = words_of(tokenizer)
    characters = characters_of(words, alphabet)
    entries = special + characters + [f"##{character}" for character in characters]
    parts = {
        part if begins else f"##{part}": count for (begins, part), count in substrings_of(words, characters, 6).items()
    }
    entries += first(Counter(parts), VOCABULARY - len(entries), weigh=lambda part: len(part.removeprefix("##")))
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    return models.WordPiece(vocab=vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)


def unigram_model(tokenizer: Tokenizer, special: list[str], alphabet: int = 120) -> models.Unigram:
    words = words_of(tokenizer)
    characters = characters_of(words, alphabet)
    counts = Counter()
    for (_, part), count in substrings_of(words, characters, 6).items():
        counts[part] += count
    chosen = first(counts, VOCABULARY - len(special) - len(characters))
    single = Counter(character for word in words.elements() for character in word)
    entries = [(entry, single[entry]) for entry in characters] + [(entry, counts[entry]) for entry in chosen]
    total = sum(count for _, count in entries)
    scored = [(entry, math.log(count / total)) for entry, count in entries]
    return models.Unigram([(token, 0.0) for token in special] + scored, unk_id=special.index("<unk>"))


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
    train(tokenizer, special, VOCABULARY, sorted(pre_tokenizers.ByteLevel.alphabet()))
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
    alphabet = characters_of(words_of(trained), 40)
    train(trained, special, VOCABULARY - 256, alphabet, limit_alphabet=len(alphabet))
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


def train(tokenizer: Tokenizer, special: list[str], size: int, alphabet: list[str], **options) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False, **options
    )
    tokenizer.train_from_iterator(training_texts(), trainer)


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
