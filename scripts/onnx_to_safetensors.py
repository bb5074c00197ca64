"""Turns an exported ONNX graph of a BERT-like encoder back into the safetensors weights it was exported from.

    onnx_to_safetensors.py MODEL.onnx MODEL.safetensors [--strip PREFIX]

An export keeps the names of embeddings, norms and biases, but writes each linear layer's weight transposed and under
a number; the node that multiplies with it still carries the layer's path. Weights that were quantised to integers
become `(q - zero_point) * scale` in float32, per tensor or per output column. The same graph always gives the same
bytes.
"""

import argparse

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file

PRODUCTS = {"MatMul": "/MatMul", "MatMulInteger": "/MatMul_quant"}
QUANTISED = "_quantized"


def dequantise(initializers: dict, name: str) -> np.ndarray:
    """The float32 values of the tensor that is stored as `<name>_quantized`, `<name>_scale`, `<name>_zero_point`."""
    q = initializers[name + QUANTISED].astype(np.float32)
    zero_point = initializers[name + "_zero_point"].astype(np.float32)
    return (q - zero_point) * initializers[name + "_scale"]


def layer_of(node) -> str:
    """The dotted path of the layer whose product a node is: `/a/b/MatMul` and `/a/b/Gemm_MatMul_quant` are `a.b`."""
    path = node.name.removesuffix("_quant").removesuffix("/Gemm_MatMul").removesuffix("/MatMul")
    return path.removeprefix("/").replace("/", ".")


def weights(graph, strip: str | None) -> dict:
    """All weights of a graph by the names that transformers gives them; linear ones as `[out, in]`."""
    initializers = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    quantised = {name.removesuffix(QUANTISED) for name in initializers if name.endswith(QUANTISED)}
    parts = {name + part for name in quantised for part in (QUANTISED, "_scale", "_zero_point")}

    tensors = {name: array for name, array in initializers.items() if name not in parts}
    tensors |= {name: dequantise(initializers, name) for name in quantised}
    for node in graph.node:
        if node.op_type not in PRODUCTS:
            continue
        operand = node.input[1].removesuffix(QUANTISED)
        if operand in tensors:  # else the other operand is an activation, as in attention
            tensors[layer_of(node) + ".weight"] = np.ascontiguousarray(tensors.pop(operand).T)

    if strip:
        # The paths of nodes may start with the name of an outer variable, those of parameters do not.
        tensors = {name.split(strip)[-1]: array for name, array in tensors.items()}
    return tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx")
    parser.add_argument("safetensors")
    parser.add_argument("--strip", help="what the names of all weights have to lose, up to and including this")
    arguments = parser.parse_args()

    tensors = weights(onnx.load(arguments.onnx).graph, arguments.strip)
    for name, array in sorted(tensors.items()):
        if array.dtype != np.float32 or not name.endswith((".weight", ".bias")):
            raise SystemExit(f"{arguments.onnx}: cannot tell which weight of the model {name} ({array.dtype}) is")
    save_file(tensors, arguments.safetensors, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
