"""The texts of the fixtures, composed from word lists with fixed seeds, and texts with unusual characters."""

import random

SUBJECTS = (
    "the operator|a runner|every shard|this plan|our oldest manifest|a tired engineer|the scheduler|a queue of jobs"
    "|the lighthouse keeper|my neighbour|a flock of starlings|the baker|an orchestra|the river|a retired pilot"
    "|the choir|der Hafenmeister|eine leise Stimme|la bibliotecaria|un chat noir|старый маяк|библиотека|η θάλασσα|図書館"
    "|猫|물고기"
).split("|")
VERBS = (
    "reads|writes|waits for|forgets|counts|splits|resumes|compares|restores|measures|repairs|loses|rewrites|announces"
    "|carries|borrows|sharpens|admires|misplaces|translates|sucht|vergisst|escucha|mesure|читает|ждёт|γράφει|見る|찾다"
).split("|")
OBJECTS = (
    "the batch|a checkpoint|42 tokens|the longest row|a stale lease|three gigabytes of memory|the last page"
    "|the exit code|its own shadow|a message of 4096 bytes|the vocabulary|a broken mirror|two eggs and flour"
    "|the harbour at dawn|7.5 kilometres of rope|the smallest violin|the timetable|a field of barley"
    "|the price of salt|the neighbours' fence|das Wörterbuch|einen Brief|el último tren|une clé rouillée"
    "|последнюю страницу|ένα γράμμα|手紙|바다"
).split("|")
ADVERBIALS = (
    "before noon|again|without a word|in the rain|twice a day|at 03:15|on purpose|since 1987|for no reason|as usual"
    "|under the bridge|with great care|by mistake|am Abend|sin prisa|sous la pluie|ночью|τη νύχτα|今日|내일"
).split("|")

# No empty text: a tokenizer without special tokens gives no token for it.
UNUSUAL = [
    "a",
    "?",
    "水",
    "🙂",
    "\u200b\u200d",
    "\x00\x07 \x1b",
    "  leading, trailing and   inner   space \t\r\n",
    "MIXED case, mIxEd CaSe, İstanbul, ǅ",
    "naïve café, cafe\u0301, Ångström, Łódź, straße",
    "Добрый день, где здесь библиотека? Καλημέρα κόσμε",
    "日本語の文章には空白がありません。中文和 English 混在一起",
    "مرحبا بالعالم שלום עולם नमस्ते दुनिया สวัสดีชาวโลก",
    "👩\u200d🚀 launches 🚀🚀 at T−10s, ∑ᵢ xᵢ² ≤ ‖x‖₂²",
    'fn main() { println!("{:?}", vec![1, 2, 3]); }',
    "right\u2067to\u2069left, soft\u00adhyphen, no\u00a0break, zero\u200bwidth, ＡＢＣ ﬁ",
    "x" * 90,
]


def sentence(rng: random.Random) -> str:
    words = f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)} {rng.choice(ADVERBIALS)}"
    return words[0].upper() + words[1:] + rng.choice([".", ".", ".", "!", "?", ";"])


def training_texts() -> list[str]:
    """The texts that the small vocabularies are chosen from. "yes" and "no" are frequent enough to be tokens, as a
    reranker needs."""
    rng = random.Random(1)
    return [sentence(rng) for _ in range(600)] + ["yes", "no"] * 300 + UNUSUAL[:10]


def special_texts(tokens: tuple[str, ...]) -> list[str]:
    """Texts that contain a tokenizer's special tokens as text, which it reads as the tokens themselves."""
    return [f"before {token} between {token} after" for token in tokens]


def texts_for(count_tokens, max_tokens: int, seed: int, special: tuple[str, ...] = ()) -> list[str]:
    """About thirty texts for a tokenizer: the unusual ones, three groups of three texts of equal length in tokens, some
    of medium length, and two that are too long. Texts without tokens are skipped."""
    rng = random.Random(seed)
    texts = UNUSUAL + special_texts(special)
    by_length: dict[int, list[str]] = {}
    for _ in range(400):
        text = " ".join(sentence(rng) for _ in range(rng.choice([1, 1, 2])))
        by_length.setdefault(count_tokens(text), []).append(text)
    groups = [group[:3] for length, group in sorted(by_length.items()) if length < max_tokens and len(set(group)) > 2]
    texts += sum(rng.sample(groups, 3), [])
    for sentences in (2, 3, 4):
        texts.append(" ".join(sentence(rng) for _ in range(sentences)))
    for length in (max_tokens, 2 * max_tokens):
        text = sentence(rng)
        while count_tokens(text) <= length:
            text += " " + sentence(rng)
        texts.append(text)
    return [text for text in texts if count_tokens(text) > 0]


def pairs_for(count_tokens, max_tokens: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of query and document: three queries with documents of all kinds, and pairs with a long query, a long
    document or both."""
    rng = random.Random(seed)
    texts = texts_for(count_tokens, max_tokens, seed)
    queries = [sentence(rng), "水", sentence(rng)]
    pairs = [(queries[position % 3], text) for position, text in enumerate(texts)]
    long = " ".join(sentence(rng) for _ in range(max_tokens // 8))
    longer = " ".join(sentence(rng) for _ in range(max_tokens // 4))
    return pairs + [(long, "a"), (longer, sentence(rng)), (sentence(rng), longer), (long, longer)]
