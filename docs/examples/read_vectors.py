"""Reads the published vectors of a model, and refuses a file that does not say that this model made them.

    python docs/examples/read_vectors.py OUTPUT COLLECTION MODEL [MODEL_FOLDER]

OUTPUT is the place that spec.output names. With MODEL_FOLDER, the tokenizer of that folder has to be the one that made the
vectors, so that it may embed the questions too. Needs numpy and pyarrow.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

# The version of the document in the footers that this program reads.
FOOTER_VERSION = 1

# The fields in which vectors that are compared with each other have to agree.
FIELDS = [
    "model_sha256",
    "tokenizer_sha256",
    "pooling",
    "max_tokens",
    "document_prompt",
    "query_prompt",
    "dimensions",
    "precision",
    "similarity",
]


def made_by(file: Path, revision: str, collection: str, model: str) -> dict:
    """What made the vectors of a model in a file, as the file's footer says."""
    metadata = pq.read_metadata(file).metadata or {}
    if b"embedrun" not in metadata:
        sys.exit(f"{file} does not say what made it: an earlier release wrote it; embed again")
    footer = json.loads(metadata[b"embedrun"])
    if footer["version"] != FOOTER_VERSION:
        sys.exit(f"{file} has a footer of version {footer['version']}, this program reads {FOOTER_VERSION}")
    if (footer["revision"], footer["collection"]) != (revision, collection):
        sys.exit(f"{file} is of collection {footer['collection']} of revision {footer['revision']}")
    for column in footer["columns"]:
        if (column["kind"], column["column"]) == ("dense", model):
            return column
    sys.exit(f"{file} has no vectors of model {model}")


def vectors(file: Path, column: dict) -> np.ndarray:
    """The vectors as floats, a row per chunk, whatever their precision."""
    name, width = column["column"], column["dimensions"]
    table = pq.read_table(file)
    stored = table[name].combine_chunks()
    if column["precision"] in ("F32", "F16"):
        return stored.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(stored), width)
    # Bytes: a signed one per dimension, or one per eight dimensions.
    rows = np.frombuffer(b"".join(stored.to_pylist()), dtype=np.uint8).reshape(len(stored), -1)
    if column["precision"] == "Int8":
        return rows.view(np.int8) * table[f"{name}_scale"].to_numpy()[:, None]
    return np.unpackbits(rows, axis=1)[:, :width] * np.float32(2) - 1


def main(output: Path, collection: str, model: str, folder: Path | None) -> None:
    revision = json.loads((output / "current" / collection).read_text())["revision"]
    summary = json.loads((output / "runs" / revision / collection / "processing_summary.json").read_text())
    first = None
    for exported in summary["export_run"]["files"]:
        file = output / exported["path"]
        column = made_by(file, revision, collection, model)
        first = first or column
        for field in FIELDS:
            if column.get(field) != first.get(field):
                sys.exit(f"{file}: {field} is {column.get(field)!r}, in other files {first.get(field)!r}")
        if folder:
            tokenizer = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
            if tokenizer != column["tokenizer_sha256"]:
                sys.exit(f"{file} was made with another tokenizer than that in {folder}")
        rows = vectors(file, column)
        print(f"{file.name}: {rows.shape[0]} vectors of {rows.shape[1]} dimensions, compared by {column['similarity']}")


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]) if len(sys.argv) == 5 else None)
