"""Exports a model folder to float32 ONNX graphs, from the same safetensors that all contestants load.

    export_onnx.py dense|sparse|rerank DIR      prints the folder with exported.onnx and fused.onnx

A graph has the inputs `input_ids`, `attention_mask` and `token_type_ids`, all `[batch, tokens]`, and one output:

| task   | output    | shape                                                                   |
|--------|-----------|-------------------------------------------------------------------------|
| dense  | `hidden`  | `[batch, tokens, hidden]`: the last hidden states                       |
| sparse | `weights` | `[batch, vocabulary]`: SPLADE's maximum over the tokens of log1p(relu)  |
| rerank | `logits`  | `[batch, labels]`                                                       |

`fused` is optimized by ONNX Runtime's tool for transformers; which of the two is faster depends on the machine. They
are in the cache under the digest of the weights and of this file, once both agree with the model.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.transformers import optimizer
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
OUTPUTS = {"dense": "hidden", "sparse": "weights", "rerank": "logits"}
CLASSES = {
    "dense": AutoModel,
    "sparse": AutoModelForMaskedLM,
    "rerank": AutoModelForSequenceClassification,
}
# The fused graph rounds differently from the model; a wrong graph differs by much more.
TOLERANCE = 1e-3


class Head(torch.nn.Module):
    """A model of transformers with positional inputs and the output of a task alone."""

    def __init__(self, task: str, model: torch.nn.Module):
        super().__init__()
        self.task, self.model = task, model

    def forward(self, input_ids, attention_mask, token_type_ids):
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        if self.task == "dense":
            return outputs.last_hidden_state
        if self.task == "rerank":
            return outputs.logits
        # log1p and relu are monotonic, so the maximum can come first: once per vocabulary entry instead of per token.
        masked = outputs.logits + (attention_mask.unsqueeze(-1).to(outputs.logits.dtype) - 1) * 1e9
        return torch.log1p(torch.relu(masked.max(dim=1).values))


def exported_graphs(task: str, folder: Path) -> Path:
    """The folder with both graphs, exported if it does not exist."""
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes() + Path(__file__).read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("EMBEDRUN_CACHE", Path.home() / ".cache/embedrun")) / "onnx"
    graphs = cache / f"{folder.name}-{task}-{digest}"
    if not graphs.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=cache))
        try:
            export(task, folder, unfinished)
            unfinished.rename(graphs)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return graphs


def export(task: str, folder: Path, out: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    # The tool fuses the products and the softmax of attention; it does not know torch's single operation for them.
    model = Head(task, CLASSES[task].from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def batch(*texts: str) -> tuple[torch.Tensor, ...]:
        tokens = tokenizer(list(texts), padding=True, return_tensors="pt")
        return tuple(tokens[name] for name in INPUTS)

    traced = batch("One text.", "Another text, which is longer.")
    other = batch("A", "batch", "of another shape than the traced one, " * 9)
    with torch.inference_mode():
        torch.onnx.export(
            model,
            traced,
            str(out / "exported.onnx"),
            input_names=INPUTS,
            output_names=[OUTPUTS[task]],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in INPUTS},
            opset_version=17,
            dynamo=False,
        )
        expected = model(*other).numpy()
    fused = optimizer.optimize_model(
        str(out / "exported.onnx"),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
    )
    fused.save_model_to_file(str(out / "fused.onnx"))

    mask = other[1].numpy()[..., None] if task == "dense" else 1
    for path in out.glob("*.onnx"):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        output = session.run(None, {name: tensor.numpy() for name, tensor in zip(INPUTS, other)})[0]
        difference = np.abs((output - expected) * mask).max()
        if not difference <= TOLERANCE:
            raise SystemExit(f"{folder.name}: the {path.stem} graph differs from the model by {difference}")


if __name__ == "__main__":
    print(exported_graphs(sys.argv[1], Path(sys.argv[2])))
