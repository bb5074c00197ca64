"""Random weights that make every mistake visible in the output."""

import numpy as np
import torch
from torch import nn

# By which a linear module widens values of deviation one: queries and keys little, so that attention is neither flat
# nor one token's alone, and little into an activation, so that it is curved where it is used.
GAINS = [
    (("query", "key", "q_proj", "k_proj", "q_lin", "k_lin", "attn.q", "attn.k", "Wqkv"), 1.6),
    (("intermediate", "lin1", "gate_proj", "up_proj", "mlp.Wi"), 1.5),
]


def draw_weights(model: nn.Module, seed: int) -> nn.Module:
    """Draws every weight anew: no flat attention, no bias of zero, no norm of one. The numbers come from NumPy, whose
    generator is the same everywhere."""
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
