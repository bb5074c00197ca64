"""Makes the fixtures that the runner's vectors are compared with: 200 texts and their MiniLM vectors.

    "$(../../scripts/python-env.sh parity)" minilm_reference.py "$(../../scripts/models.sh all-MiniLM-L6-v2)" fixtures

A plain NumPy BERT in double precision, one text at a time, so that there is neither padding nor a mask: what the
runner computes in batches has to agree with it. The formulas are those of `transformers`' `modeling_bert.py` and of
`sentence-transformers`' mean pooling and normalisation.

The texts are composed here from word lists, with the characters that tokenizers trip over added by hand.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.special import erf
from tokenizers import Tokenizer

TEXTS = 200
MAX_TOKENS = 256

SUBJECTS = """the operator|a runner|the second shard|every chunk|this plan|our oldest manifest|a tired engineer
the controller|one pod|the tokenizer|a vector|the store|each revision|the scheduler|a queue of jobs|the summary
the lighthouse keeper|my neighbour|a flock of starlings|the baker|an orchestra|the river|a retired pilot
the museum|a glass of water|the night train|an old map|the gardener|a paper boat|the choir""".replace("\n", "|").split("|")
VERBS = """reads|writes|waits for|forgets|counts|splits|resumes|compares|restores|measures|follows|repairs|loses
rewrites|announces|carries|borrows|sharpens|admires|misplaces|photographs|translates""".replace("\n", "|").split("|")
OBJECTS = """the batch|a checkpoint|42 tokens|the longest row|a stale lease|three gigabytes of memory|the last page
an empty folder|the exit code|its own shadow|a message of 4096 bytes|the vocabulary|a broken mirror|two eggs and flour
the harbour at dawn|an unfinished letter|7.5 kilometres of rope|the smallest violin|a recipe for bread|the timetable
a field of barley|the price of salt|an argument about punctuation|the neighbours' fence""".replace("\n", "|").split("|")
ENDINGS = """before noon|again|without a word|in the rain|twice a day|at 03:15|on purpose|since 1987|for no reason
while nobody watches|under the bridge|with great care|as usual|by mistake""".replace("\n", "|").split("|")

UNUSUAL = [
    "",
    " ",
    "a",
    "?",
    "7",
    "é",
    "ß",
    "水",
    "🙂",
    "\u200b",
    "\x00\x07",
    "\ufffd",
    "[SEP]",
    "[CLS] [MASK] [PAD] [UNK]",
    "  leading, trailing and   inner   space \t\r\n",
    "MIXED case, mIxEd CaSe",
    "naïve café, crème brûlée, Ångström, Dvořák, Łódź, smörgåsbord",
    "cafe\u0301 and caf\u00e9 are one word in two spellings",
    "Straße, STRASSE, straße",
    "Добрый день, где здесь библиотека?",
    "Καλημέρα κόσμε",
    "日本語の文章には空白がありません。",
    "中文和 English 混在一起",
    "안녕하세요 세계",
    "مرحبا بالعالم",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "👩\u200d🚀 launches 🚀🚀🚀 at T−10s",
    "∑ᵢ xᵢ² ≤ ‖x‖₂² ≠ ∞",
    "fn main() { println!(\"{:?}\", vec![1, 2, 3]); }",
    "SELECT id, text FROM chunks WHERE length(text) > 0;",
    "{\"id\": \"a-1\", \"text\": \"…\", \"metadata\": {}}",
    "x" * 99,
    "x" * 101,
    "pneumonoultramicroscopicsilicovolcanoconiosis " * 5,
    "don't—won't; can't… “quoted” ‘quoted’ «quoted»",
    "full-width ＡＢＣ１２３ and ligature ﬁ ﬂ",
    "right\u2067to\u2069left and soft\u00adhyphen and no\u00a0break",
    "one\ntwo\n\nthree\u2028four",
]


def sentence(rng: random.Random) -> str:
    words = f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)} {rng.choice(ENDINGS)}"
    return words[0].upper() + words[1:] + rng.choice([".", ".", ".", "!", "?", ";"])


def compose() -> list[str]:
    """200 texts: the unusual ones, then 1 to 120 sentences each, most of them short."""
    rng = random.Random(20)
    texts = list(UNUSUAL)
    while len(texts) < TEXTS:
        sentences = rng.choices([1, 2, 3, 5, 8, 13, 20, 25, 40, 120], [30, 25, 20, 20, 15, 10, 5, 5, 4, 2])[0]
        texts.append(" ".join(sentence(rng) for _ in range(sentences)))
    return texts


class Bert:
    def __init__(self, folder: Path):
        self.config = json.loads((folder / "config.json").read_text())
        assert self.config["hidden_act"] == "gelu", "only the erf form is here"
        tensors = load_file(folder / "model.safetensors")
        self.tensors = {name: tensor.astype(np.float64) for name, tensor in tensors.items() if tensor.dtype.kind == "f"}

    def linear(self, x, module):
        return x @ self.tensors[f"{module}.weight"].T + self.tensors[f"{module}.bias"]

    def layer_norm(self, x, module):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        return scaled * self.tensors[f"{module}.weight"] + self.tensors[f"{module}.bias"]

    def attention(self, x, module):
        heads = self.config["num_attention_heads"]

        def split(part):  # [tokens, hidden] → [heads, tokens, hidden / heads]
            return self.linear(x, f"{module}.self.{part}").reshape(len(x), heads, -1).transpose(1, 0, 2)

        query, key, value = split("query"), split("key"), split("value")
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        context = (weights @ value).transpose(1, 0, 2).reshape(x.shape)
        return self.layer_norm(x + self.linear(context, f"{module}.output.dense"), f"{module}.output.LayerNorm")

    def hidden(self, ids):
        """Token vectors, [tokens, hidden size]."""
        embeddings = {
            part: self.tensors[f"embeddings.{part}_embeddings.weight"] for part in ("word", "position", "token_type")
        }
        x = embeddings["word"][ids] + embeddings["position"][: len(ids)] + embeddings["token_type"][0]
        x = self.layer_norm(x, "embeddings.LayerNorm")
        for layer in range(self.config["num_hidden_layers"]):
            module = f"encoder.layer.{layer}"
            x = self.attention(x, f"{module}.attention")
            inner = self.linear(x, f"{module}.intermediate.dense")
            inner = inner * 0.5 * (1 + erf(inner / np.sqrt(2)))
            x = self.layer_norm(x + self.linear(inner, f"{module}.output.dense"), f"{module}.output.LayerNorm")
        return x

    def embed(self, ids):
        mean = self.hidden(ids).mean(0)
        return mean / np.linalg.norm(mean)


def main(model: Path, fixtures: Path) -> None:
    # The file pads and truncates to 128; the model was published for 256.
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    bert = Bert(model)
    records, vectors = [], []
    for text in compose():
        whole = len(tokenizer.encode(text).ids)
        tokenizer.enable_truncation(MAX_TOKENS)
        ids = tokenizer.encode(text).ids
        tokenizer.no_truncation()
        records.append({"text": text, "tokens": len(ids), "lost": whole - len(ids)})
        vectors.append(bert.embed(ids))
    fixtures.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (fixtures / "minilm_200.jsonl").write_text("".join(lines), encoding="utf-8")
    save_file({"vectors": np.array(vectors, dtype=np.float32)}, fixtures / "minilm_200.safetensors")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: minilm_reference.py MODEL_FOLDER FIXTURES_FOLDER")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
