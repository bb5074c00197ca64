"""Converts an exported ONNX graph of a BERT-like encoder back to the safetensors weights it was exported from.

    onnx_to_safetensors.py MODEL.onnx MODEL.safetensors [--strip PREFIX]

An export keeps the names of embeddings, norms and biases. It writes the weight of each linear layer transposed and with
a number as its name; the path of the layer is in the name of the node that multiplies with it. Weights that were
quantized to integers become `(q - zero_point) * scale` in float32, per tensor or per output column. The same graph
always gives the same bytes.
"""

import argparse

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file

PRODUCTS = {"MatMul": "/MatMul", "MatMulInteger": "/MatMul_quant"}
QUANTIZED_SUFFIX = "_quantized"


def dequantize(initializers: dict, name: str) -> np.ndarray:
    """The float32 values of the tensor that is stored as `<name>_quantized`, `<name>_scale`, `<name>_zero_point`."""
    q = initializers[name + QUANTIZED_SUFFIX].astype(np.float32)
    zero_point = initializers[name + "_zero_point"].astype(np.float32)
    return (q - zero_point) * initializers[name + "_scale"]


def layer_of(node) -> str:
    """The dotted path of the layer of a product: `/a/b/MatMul` and `/a/b/Gemm_MatMul_quant` are `a.b`."""
    path = node.name.removesuffix("_quant").removesuffix("/Gemm_MatMul").removesuffix("/MatMul")
    return path.removeprefix("/").replace("/", ".")


def weights(graph, strip: str | None) -> dict:
    """All weights of a graph by their names in transformers; those of linear layers as `[out, in]`."""
    initializers = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    quantized = {name.removesuffix(QUANTIZED_SUFFIX) for name in initializers if name.endswith(QUANTIZED_SUFFIX)}
    parts = {name + part for name in quantized for part in (QUANTIZED_SUFFIX, "_scale", "_zero_point")}

    tensors = {name: array for name, array in initializers.items() if name not in parts}
    tensors |= {name: dequantize(initializers, name) for name in quantized}
    for node in graph.node:
        if node.op_type not in PRODUCTS:
            continue
        operand = node.input[1].removesuffix(QUANTIZED_SUFFIX)
        if operand in tensors:  # otherwise the operand is an activation, as in attention
            tensors[layer_of(node) + ".weight"] = np.ascontiguousarray(tensors.pop(operand).T)

    if strip:
        # The paths of nodes may start with the name of an outer module, those of parameters do not.
        tensors = {name.split(strip)[-1]: array for name, array in tensors.items()}
    return tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx")
    parser.add_argument("safetensors")
    parser.add_argument("--strip", metavar="PREFIX", help="remove names of weights up to and including PREFIX")
    arguments = parser.parse_args()

    tensors = weights(onnx.load(arguments.onnx).graph, arguments.strip)
    for name, array in sorted(tensors.items()):
        if array.dtype != np.float32 or not name.endswith((".weight", ".bias")):
            raise SystemExit(f"{arguments.onnx}: tensor {name} ({array.dtype}) is not a float32 weight or bias")
    save_file(tensors, arguments.safetensors, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
