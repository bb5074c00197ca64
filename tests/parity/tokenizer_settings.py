"""Token ids of the reference for settings of a model folder: makes `tokenizer_settings.json`, or with `--check` compares it.

    "$(../../scripts/python-env.sh parity)" tokenizer_settings.py [--check]

A case is a fixture with other settings: `edits` merges keys into JSON files of the folder, `without` takes keys out, `removed`
takes files away. `documents` and `queries` are encoded as the two sides of a dense or sparse model, `pairs` as a reranker reads
them, each alone. `runner/tests/model/tokenizers.rs` compares the runner with the file.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from registry import FIXTURES

import reference  # noqa: F401  (settings that apply before the models are imported)
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder

FILE = Path(__file__).parent / "tokenizer_settings.json"

CASED = ["Paris and PARIS", "naïve café Ångström", "水water 水", "A [MASK] B [CLS] C", "ΟΔΥΣΣΕΑΣ ΟΔΟΣ", "İstanbul", "  two  blanks "]
SPACED = ["Paris and PARIS", "naïve café", "水water in  two   spaces", "  leading blank", "tab\there\nnew line", "ﬁne ½ ①", "a <mask> b", "a<mask>b", "x </s> y", "don't 123 4567", "ΟΔΟΣ"]
ADDED = ["a [unused0] b", "a[unused0]b", "A [UNUSED0] b", "word a-b WORD", "swords word", "plain text", " word , word"]
LONG = ["the long road to town " * 8, "one two three four five six seven eight nine ten eleven twelve thirteen fourteen", "short"]
PAIRS = [["which road is long?", "the long road to town " * 8], ["the long road to town " * 8, "short"], ["A Query", "A Document"], ["road " * 30, "town " * 31]]

CONFIG, MAP, BERT, JSON = "tokenizer_config.json", "special_tokens_map.json", "sentence_bert_config.json", "tokenizer.json"


def bert_normalizer(lowercase: bool, strip_accents: bool | None = None) -> dict:
    return {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": strip_accents, "lowercase": lowercase}


def added(content: str, **properties: bool) -> dict:
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": False, **properties}


def case(name: str, base: str, **parts) -> dict:
    return {"name": name, "base": base, **parts}


def classes() -> list[dict]:
    cased = {"normalizer": bert_normalizer(False)}
    of_bert = lambda name, texts=CASED, file=cased, **config: case(name, "bert-mean", edits={JSON: file, CONFIG: config}, documents=texts)
    of = lambda name, base, **config: case(name, base, edits={CONFIG: config}, documents=SPACED)
    return [
        of_bert("BERT maps to lower case by default", tokenizer_class="BertTokenizer"),
        of_bert("BERT keeps the case", file={}, tokenizer_class="BertTokenizer", do_lower_case=False),
        of_bert("BERT keeps accents", tokenizer_class="BertTokenizerFast", strip_accents=False),
        of_bert("BERT strips accents and keeps the case", tokenizer_class="BertTokenizer", do_lower_case=False, strip_accents=True),
        of_bert("BERT does not split Chinese characters", tokenizer_class="BertTokenizer", tokenize_chinese_chars=False),
        of_bert("settings of a class do not change a file", tokenizer_class="PreTrainedTokenizerFast", do_lower_case=True, strip_accents=True),
        of_bert("a class that the reference does not know is that of the file", tokenizer_class="MyOwnTokenizer", do_lower_case=True),
        of_bert("ELECTRA's class is BERT's", tokenizer_class="ElectraTokenizerFast"),
        of_bert("another token for the unknown", tokenizer_class="BertTokenizer", unk_token="[PAD]"),
        of_bert("other tokens around a text", tokenizer_class="BertTokenizer", cls_token="[MASK]", sep_token="[PAD]"),
        case("the class of the architecture", "bert-mean", edits={JSON: cased}, removed=[CONFIG], documents=CASED),
        case("the class of the architecture, without a name", "bert-mean", edits={JSON: cased}, without={CONFIG: ["tokenizer_class"]}, documents=CASED),
        case("the class of config.json", "roberta-mean", edits={"config.json": {"tokenizer_class": "TokenizersBackend"}, CONFIG: {"add_prefix_space": True}}, without={CONFIG: ["tokenizer_class"]}, documents=SPACED),
        case("DistilBERT's class", "distilbert-mean", edits={JSON: cased, CONFIG: {"tokenizer_class": "DistilBertTokenizer"}}, documents=CASED),
        case("a class of another architecture", "bert-mean", edits={JSON: cased, CONFIG: {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True}}, documents=CASED),
        of("MPNet maps to lower case by default", "mpnet-mean", tokenizer_class="MPNetTokenizer"),
        of("MPNet keeps the case", "mpnet-mean", tokenizer_class="MPNetTokenizer", do_lower_case=False, mask_token="<mask>"),
        case("MPNet's own special tokens", "mpnet-mean", edits={CONFIG: {"tokenizer_class": "MPNetTokenizerFast"}, JSON: {"added_tokens": []}}, documents=SPACED),
        of("RoBERTa", "roberta-mean", tokenizer_class="RobertaTokenizer"),
        of("RoBERTa with a space in front", "roberta-mean", tokenizer_class="RobertaTokenizerFast", add_prefix_space=True),
        of("a space in front does not change a file", "roberta-mean", tokenizer_class="TokenizersBackend", add_prefix_space=True),
        of("XLM-R drops normalizers of the file", "xlm-roberta-cls", tokenizer_class="XLMRobertaTokenizer"),
        of("XLM-R without a space in front", "xlm-roberta-cls", tokenizer_class="XLMRobertaTokenizerFast", add_prefix_space=False),
        of("CamemBERT", "xlm-roberta-cls", tokenizer_class="CamembertTokenizer"),
        of("CamemBERT without further tokens", "xlm-roberta-cls", tokenizer_class="CamembertTokenizerFast", extra_special_tokens=[]),
        of("Gemma", "gemma3-mean", tokenizer_class="GemmaTokenizerFast"),
        of("Gemma's own class without a name", "gemma3-mean", tokenizer_class=None),
        of("Qwen2", "qwen3-last-token", tokenizer_class="Qwen2Tokenizer"),
        of("Qwen2 with a space in front", "qwen3-last-token", tokenizer_class="Qwen2TokenizerFast", add_prefix_space=True),
        of("Qwen2's class is taken whatever is named", "qwen2-last-token", tokenizer_class="TokenizersBackend", add_prefix_space=True),
        of("ModernBERT's file is taken whatever is named", "modernbert-mean", tokenizer_class="GPT2Tokenizer", add_prefix_space=True),
        of("a Llama tokenizer of bytes is that of the file", "roberta-mean", tokenizer_class="LlamaTokenizer"),
        of("end tokens are those of the file", "gemma3-mean", tokenizer_class="GemmaTokenizer", add_eos_token=False, add_bos_token=False),
    ]


def tokens() -> list[dict]:
    by_id = lambda *all_tokens: {str(100 + at): token for at, token in enumerate(all_tokens)}
    of = lambda name, base="bert-mean", texts=ADDED, **edits: case(name, base, edits={key.replace("_json", ".json"): value for key, value in edits.items()}, documents=texts)
    bert = {"tokenizer_class": "BertTokenizer"}
    return [
        of("an added token by id", tokenizer_config_json={"added_tokens_decoder": {"5": added("[unused0]", special=True)}}),
        of("spaces around an added token", tokenizer_config_json={"added_tokens_decoder": by_id(added("word", lstrip=True, rstrip=True))}),
        of("an added token that is a whole word", tokenizer_config_json={"added_tokens_decoder": by_id(added("word", single_word=True))}),
        of("an added token in the normalised text", tokenizer_config_json={"added_tokens_decoder": by_id(added("word", normalized=True))}),
        of("added tokens by id replace those of the file", tokenizer_config_json={**bert, "added_tokens_decoder": {"3": added("[SEP]", special=True)}}, texts=CASED),
        of("added tokens of the file in a class", tokenizer_config_json=bert, texts=CASED + ADDED),
        of("special tokens without a name", tokenizer_config_json={"additional_special_tokens": ["[unused0]", "word"]}),
        of("an empty list of special tokens does not hide the old one", tokenizer_config_json={"additional_special_tokens": ["word"], "extra_special_tokens": []}),
        of("the new list of special tokens before the old one", tokenizer_config_json={"additional_special_tokens": ["word"], "extra_special_tokens": ["[unused0]"]}),
        of("special tokens of a model's own", tokenizer_config_json={"image_token": "word", "extra_special_tokens": {"sound_token": "[unused0]"}}),
        of("a special token with properties", tokenizer_config_json={"mask_token": {"__type": "AddedToken", **added("word", lstrip=True)}}),
        of("special tokens of the map", special_tokens_map_json={"additional_special_tokens": ["[unused0]"], "mask_token": {"content": "word", "lstrip": True, "normalized": True, "rstrip": False, "single_word": False}}),
        of("the map joins the new list", tokenizer_config_json={"extra_special_tokens": ["word"]}, special_tokens_map_json={"extra_special_tokens": ["[unused0]"]}),
        of("the map is not read beside tokens by id", tokenizer_config_json={"added_tokens_decoder": {}}, special_tokens_map_json={"additional_special_tokens": ["word"]}),
        of("the map in a class", tokenizer_config_json=bert, special_tokens_map_json={"cls_token": "[MASK]", "sep_token": {"content": "[SEP]", "lstrip": True, "normalized": False, "rstrip": True, "single_word": False}}, texts=CASED),
        of("added_tokens.json and the new list", added_tokens_json={"word": 30, "[unused0]": 5}, special_tokens_map_json={"extra_special_tokens": ["[unused0]"]}),
        of("added_tokens.json", added_tokens_json={"word": 30, "[unused0]": 5}, special_tokens_map_json={"additional_special_tokens": ["[unused0]"]}),
        of("special tokens in a text are text", tokenizer_config_json={"split_special_tokens": True}, texts=CASED),
        of("added tokens and lower case", tokenizer_config_json={"added_tokens_decoder": by_id(added("WORD", normalized=True), added("Paris"))}, sentence_bert_config_json={"do_lower_case": True}, texts=CASED + ADDED),
        of("arguments name tokens", sentence_bert_config_json={"tokenizer_args": {"additional_special_tokens": ["word"], "add_eos_token": True, "eos_token": "[SEP]"}}),
        of("an argument before the map", sentence_bert_config_json={"processor_kwargs": {"mask_token": "word"}}, special_tokens_map_json={"mask_token": "[MASK]"}),
    ]


def lower_case() -> list[dict]:
    lowered = {BERT: {"do_lower_case": True}}
    of = lambda base, **edits: case(f"lower case of {base}", base, edits={**lowered, **edits}, documents=CASED + SPACED)
    bases = ["bert-mean", "mpnet-mean", "roberta-mean", "xlm-roberta-cls", "gemma3-mean", "qwen3-last-token", "modernbert-mean", "nomic-bert-mean-saved", "distilbert-mean"]
    file_does = {JSON: {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}}}
    return [of(base) for base in bases] + [
        {**of("bert-mean", **file_does), "name": "a file that maps to lower case itself"},
        {**of("roberta-mean", **{CONFIG: {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True}}), "name": "lower case of a class"},
        case("lower case of a sparse model", "distilbert-mlm", edits=lowered, documents=CASED, queries=CASED),
        case("lower case of a reranker", "rerank-modernbert-cls", edits=lowered, pairs=PAIRS),
        case("the file of a folder without modules is not read", "rerank-bert", edits={BERT: {"do_lower_case": True, "max_seq_length": 12}}, pairs=PAIRS),
    ]


def lengths() -> list[dict]:
    of = lambda name, base="bert-mean", bert=None, config=None, **parts: case(name, base, edits={BERT: bert or {}, CONFIG: config or {}}, documents=LONG, queries=LONG, **parts)
    older = lambda name: case(name, "roberta-mean", edits={name: {"max_seq_length": 16, "do_lower_case": True}}, removed=[BERT], documents=LONG + CASED)
    names = ["roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"]
    direction = lambda side: {"truncation": {"max_length": 5, "strategy": "LongestFirst", "stride": 0, "direction": side}}
    return [older(f"sentence_{name}_config.json") for name in names] + [
        case("the first of the files that has a field", "roberta-mean", edits={BERT: {}, "sentence_albert_config.json": {"max_seq_length": 9}, "sentence_xlnet_config.json": {"max_seq_length": 5}}, emptied=[BERT], documents=LONG),
        of("max_seq_length above model_max_length", bert={"max_seq_length": 40}, config={"model_max_length": 8}),
        of("max_seq_length below model_max_length", bert={"max_seq_length": 8}, config={"model_max_length": 40}),
        of("model_max_length", config={"model_max_length": 8}),
        *[case(f"max_seq_length above the positions of {base}", base, edits={BERT: {"max_seq_length": 150}}, documents=["the long road to town " * 50]) for base in ["modernbert-mean", "qwen3-last-token", "gemma3-mean", "nomic-bert-mean-saved"]],
        of("no limit but that of the positions", config={"model_max_length": 1e30}),
        of("model_max_length by its old name", config={"max_len": 9}, without={CONFIG: ["model_max_length"]}),
        of("model_max_length among the arguments", bert={"max_seq_length": 40, "tokenizer_args": {"model_max_length": 7}}, config={"model_max_length": 8}),
        of("the old name of the arguments before the new one", bert={"tokenizer_args": {"model_max_length": 7}, "processor_kwargs": {"model_max_length": 9}}),
        of("max_length among the arguments changes nothing", bert={"tokenizer_args": {"max_length": 7}}, config={"max_length": 5}),
        of("lengths of the sides", bert={"document_length": 12, "query_length": 6}),
        of("lengths of the sides above the limit", bert={"document_length": 40, "query_length": 6, "max_seq_length": 8}),
        of("lengths of a call before those of the sides", bert={"document_length": 12, "query_length": 6, "processing_kwargs": {"text": {"max_length": 9}}}),
        of("common arguments of a call before those of texts", bert={"processing_kwargs": {"text": {"max_length": 9}, "common": {"max_length": 5}}}),
        case("a call that does not truncate", "bert-mean", edits={BERT: {"max_seq_length": 8, "processing_kwargs": {"text": {"truncation": False}}}}, documents=["the long road to town " * 4]),
        of("a call without special tokens", bert={"processing_kwargs": {"text": {"add_special_tokens": False, "max_length": 6}}}),
        of("truncation on the left", config={"truncation_side": "left", "model_max_length": 8}),
        of("the side of the arguments", bert={"tokenizer_args": {"truncation_side": "right"}}, config={"truncation_side": "left", "model_max_length": 8}),
        case("the side of the file", "bert-mean", edits={JSON: direction("Left"), BERT: {"max_seq_length": 8}}, without={CONFIG: ["truncation_side"]}, documents=LONG),
        case("the side of the file in a class", "bert-mean", edits={JSON: direction("Left"), BERT: {"max_seq_length": 8}, CONFIG: {"tokenizer_class": "BertTokenizer"}}, without={CONFIG: ["truncation_side"]}, documents=LONG),
        case("the side of the configuration before that of the file", "bert-mean", edits={JSON: direction("Left"), BERT: {"max_seq_length": 8}, CONFIG: {"truncation_side": "right"}}, documents=LONG),
        of("the sides of a sparse model", base="distilbert-mlm", bert={"document_length": 12, "query_length": 6}, config={"truncation_side": "left"}),
        case("pairs cut on the left", "rerank-bert", edits={CONFIG: {"truncation_side": "left", "model_max_length": 24}}, pairs=PAIRS),
        case("pairs of RoBERTa's class cut on the left", "rerank-roberta", edits={CONFIG: {"truncation_side": "left", "model_max_length": 25, "tokenizer_class": "RobertaTokenizer", "add_prefix_space": True}}, pairs=PAIRS),
        case("pairs of XLM-R's class", "rerank-xlm-roberta", edits={CONFIG: {"model_max_length": 25, "tokenizer_class": "XLMRobertaTokenizer"}}, pairs=PAIRS),
        case("pairs of BERT's class", "rerank-bert", edits={CONFIG: {"model_max_length": 25, "tokenizer_class": "BertTokenizer", "do_lower_case": False}}, pairs=PAIRS),
        case("pairs without token types", "rerank-bert", edits={CONFIG: {"model_input_names": ["input_ids", "attention_mask"]}}, pairs=PAIRS),
        case("pairs of a file that does not name the inputs", "rerank-bert", edits={CONFIG: {}}, without={CONFIG: ["model_input_names"]}, pairs=PAIRS),
        case("pairs of a class that does not name the inputs", "rerank-bert", edits={CONFIG: {"tokenizer_class": "BertTokenizer"}}, without={CONFIG: ["model_input_names"]}, pairs=PAIRS),
        case("a reranker with modules", "rerank-modernbert-cls", edits={BERT: {"max_seq_length": 20, "query_length": 5, "tokenizer_args": {"truncation_side": "left", "max_length": 9}}}, pairs=PAIRS),
        case("a reranker's call", "rerank-modernbert-cls", edits={BERT: {"processing_kwargs": {"text": {"max_length": 14}}}}, pairs=PAIRS),
    ]


def apply(case: dict, folder: Path) -> None:
    for name in case.get("removed", []):
        (folder / name).unlink()
    for name in case.get("emptied", []):
        (folder / name).write_text("{}")
    for kind in ("edits", "without"):
        for name, change in case.get(kind, {}).items():
            file = folder / name
            content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            for key in change:
                content.pop(key, None)
            content.update(change if kind == "edits" else {})
            if content or file.exists():
                file.write_text(json.dumps(content), encoding="utf-8")


def encode(case: dict) -> dict:
    """The case with the ids of the reference, and the token types of pairs that have some."""
    base = FIXTURES / case["base"]
    task = json.loads((base / "case.json").read_text())["task"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        shutil.copytree(base, folder)
        apply(case, folder)
        model = {"dense": SentenceTransformer, "sparse": SparseEncoder, "rerank": CrossEncoder}[task](str(folder), device="cpu")
        made = dict(case)
        for side in ("document", "query"):
            if texts := case.get({"document": "documents", "query": "queries"}[side]):
                made[f"{side}_ids"] = [model.preprocess([text], task=side)["input_ids"][0].tolist() for text in texts]
        if pairs := case.get("pairs"):
            features = [model.preprocess([tuple(pair)]) for pair in pairs]
            made["pair_ids"] = [feature["input_ids"][0].tolist() for feature in features]
            made["pair_types"] = [feature["token_type_ids"][0].tolist() if "token_type_ids" in feature else [] for feature in features]
    return made


def main() -> None:
    cases = []
    for case in classes() + tokens() + lower_case() + lengths():
        try:
            cases.append(encode(case))
        except Exception as error:
            sys.exit(f"{case['name']}: {type(error).__name__}: {error}")
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    text = f"[\n{lines}\n]\n"
    if "--check" in sys.argv:
        if text != FILE.read_text(encoding="utf-8"):
            sys.exit(f"{FILE.name} differs from the live reference")
        print(f"{len(cases)} cases of settings agree with the live reference")
    else:
        FILE.write_text(text, encoding="utf-8")
        print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
