"""Small vocabularies of a few hundred entries, chosen from the training texts.

They must come out the same each time. The library's trainer for BPE is deterministic once it is given its alphabet.
Those for WordPiece and Unigram are not, so their entries are chosen here, by how much text they cover.
"""

import math
from collections import Counter

from tokenizers import Tokenizer, models, trainers

from texts import training_texts

VOCABULARY = 320


def count_words(tokenizer: Tokenizer) -> Counter[str]:
    """How often each word of the training texts occurs, after normalization and pre-tokenization."""
    words = Counter()
    for text in training_texts():
        normalized = tokenizer.normalizer.normalize_str(text)
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized))
    return words


def most_covering(counts: Counter[str], number: int, weigh=len) -> list[str]:
    """The `number` entries that cover most text; `weigh` is the text that an occurrence covers."""
    return sorted(counts, key=lambda entry: (-counts[entry] * weigh(entry), entry))[:number]


def characters_of(words: Counter[str], number: int) -> list[str]:
    """The most frequent characters, sorted."""
    counts = Counter()
    for word, count in words.items():
        counts.update({character: word.count(character) * count for character in word})
    return sorted(most_covering(counts, number))


def substrings_of(words: Counter[str], characters: list[str], longest: int) -> Counter[tuple[bool, str]]:
    """How often each substring of two or more of these characters occurs, by whether it begins a word."""
    allowed = set(characters)
    counts = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 2, min(start + longest, len(word)) + 1):
                if allowed.issuperset(word[start:end]):
                    counts[start == 0, word[start:end]] += count
    return counts


def word_piece_model(tokenizer: Tokenizer, special: list[str], alphabet: int = 80) -> models.WordPiece:
    words = count_words(tokenizer)
    characters = characters_of(words, alphabet)
    entries = special + characters + [f"##{character}" for character in characters]
    parts = {
        part if begins else f"##{part}": count for (begins, part), count in substrings_of(words, characters, 6).items()
    }
    entries += most_covering(Counter(parts), VOCABULARY - len(entries), weigh=lambda part: len(part.removeprefix("##")))
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    return models.WordPiece(vocab=vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)


def unigram_model(tokenizer: Tokenizer, special: list[str], alphabet: int = 120) -> models.Unigram:
    words = count_words(tokenizer)
    characters = characters_of(words, alphabet)
    counts = Counter()
    for (_, part), count in substrings_of(words, characters, 6).items():
        counts[part] += count
    chosen = most_covering(counts, VOCABULARY - len(special) - len(characters))
    single = Counter(character for word in words.elements() for character in word)
    entries = [(entry, single[entry]) for entry in characters] + [(entry, counts[entry]) for entry in chosen]
    total = sum(count for _, count in entries)
    scored = [(entry, math.log(count / total)) for entry, count in entries]
    return models.Unigram([(token, 0.0) for token in special] + scored, unk_id=special.index("<unk>"))


def train_bpe(tokenizer: Tokenizer, special: list[str], size: int, alphabet: list[str], **options) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False, **options
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
