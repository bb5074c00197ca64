"""What the cases share: the shape of random weights, the folders, and the files that a test reads."""

import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1", HF_HUB_OFFLINE="1")

import numpy as np
import sentence_transformers
import torch
import transformers
from safetensors.numpy import save_file
from torch import nn

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)

FIXTURES = Path(__file__).parent / "fixtures"
LIMIT = 1_000_000  # bytes of a case's folder
TRANSFORMERS = f"transformers {transformers.__version__}"
SENTENCE_TRANSFORMERS = f"sentence-transformers {sentence_transformers.__version__}, {TRANSFORMERS}"

# An epsilon as large as this shows in the vectors when it is ignored.
EPSILON = 0.01


# By which a linear module widens values of deviation one: queries and keys little, so that attention is neither flat
# nor one token's alone, and little into an activation, so that it is curved where it is used.
GAINS = [
    (("query", "key", "q_proj", "k_proj", "q_lin", "k_lin", "attn.q", "attn.k", "Wqkv"), 1.6),
    (("intermediate", "lin1", "gate_proj", "up_proj", "mlp.Wi"), 1.5),
]


def shape(model: nn.Module, seed: int) -> nn.Module:
    """Draws every weight anew, so that a mistake anywhere shows in the output: no flat attention, no bias of zero, no
    norm of one. The numbers come from NumPy, whose generator is the same everywhere."""
    rng = np.random.default_rng(seed)
    drawn = set()

    def draw(tensor: torch.Tensor | None, mean: float, deviation: float) -> None:
        # A tied tensor is met twice and drawn once.
        if tensor is not None and id(tensor) not in drawn:
            drawn.add(id(tensor))
            values = mean + deviation * rng.standard_normal(tuple(tensor.shape))
            tensor.data = torch.from_numpy(values.astype(np.float32))

    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, nn.Embedding):
            draw(module.weight, 0.0, 1.0)
        elif kind == "Gemma3TextScaledWordEmbedding":
            draw(module.weight, 0.0, 1.0 / module.weight.shape[1] ** 0.5)
        elif isinstance(module, nn.Linear):
            gain = next((gain for parts, gain in GAINS if any(part in name for part in parts)), 2.5)
            draw(module.weight, 0.0, gain / module.in_features**0.5)
            draw(module.bias, 0.0, 0.3)
        elif "Norm" in kind:
            # Gemma's norms multiply by one plus the weight.
            draw(module.weight, 0.0 if kind.startswith("Gemma") else 1.0, 0.3)
            draw(getattr(module, "bias", None), 0.0, 0.3)
    return model.eval()


def write_json(file: Path, content) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def edit_json(file: Path, edit: Callable[[dict], None]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    edit(content)
    write_json(file, content)


def token_counter(tokenizer) -> Callable[..., int]:
    """Tokens of a text or a pair, special ones included, nothing cut."""
    return lambda *texts: len(tokenizer(*texts, truncation=False)["input_ids"])


def text_records(tokenizer, texts: list[str], max_tokens: int, prompt: str = "") -> list[dict]:
    """A line of `texts.jsonl` per text. The prompt counts among the tokens and is not part of the text."""
    count = token_counter(tokenizer)
    records = []
    for text in texts:
        whole = count(prompt + text)
        records.append({"text": text, "tokens": min(whole, max_tokens), "lost": max(whole - max_tokens, 0)})
    return records


def write_case(folder: Path, case: dict, records: list[dict], expected: dict[str, np.ndarray]) -> None:
    """The three files beside the model: what the case is, its inputs, and what the reference makes of them."""
    (folder / "README.md").unlink(missing_ok=True)
    write_json(folder / "case.json", case)
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (folder / "texts.jsonl").write_text("".join(lines), encoding="utf-8")
    assert all(np.isfinite(values).all() for values in expected.values()), f"{folder.name}: not finite"
    kinds = {name: np.float32 if values.dtype == np.float64 else values.dtype for name, values in expected.items()}
    tensors = {name: np.ascontiguousarray(values, dtype=kinds[name]) for name, values in expected.items()}
    save_file(tensors, folder / "expected.safetensors")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert size <= LIMIT, f"{folder.name}: {size} bytes"


def say_spread(name: str, vectors: np.ndarray) -> None:
    """How alike the vectors of different texts are: among vectors that are all alike, mistakes would hide."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    median, most = np.median(cosines), np.quantile(cosines, 0.95)
    print(f"{name}: {len(unit)} rows, cosines median {median:.3f}, 95th percentile {most:.3f}")
    assert most < 0.985, f"{name}: the vectors are too much alike, another seed may do"


class Cases(dict):
    """The cases of a group by name. Each is a function that makes one folder."""

    def case(self, name: str):
        def register(make: Callable[[Path], None]):
            self[name] = make
            return make

        return register

    def main(self) -> None:
        """Makes the cases named on the command line, or all, under `fixtures/`."""
        names = sys.argv[1:] or list(self)
        if unknown := set(names) - set(self):
            sys.exit(f"no case {', '.join(sorted(unknown))}; there are {', '.join(self)}")
        for name in names:
            self.make(name, FIXTURES)

    def make(self, name: str, parent: Path) -> None:
        """Makes a case's folder under `parent`; one that is there is replaced once the new one is whole."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            self[name](folder)
            shutil.rmtree(parent / name, ignore_errors=True)
            shutil.copytree(folder, parent / name)
            for file in (parent / name).rglob("*.safetensors"):
                file.chmod(0o644)
