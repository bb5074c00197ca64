"""Makes every case anew with the live reference and compares it with the committed one.

    "$(../../scripts/python-env.sh parity)" check.py [CASE...]

Texts, configurations, tokenizers and weights have to be the same, outputs to agree within what another processor's
order of summation may change.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

import make_dense
import make_published
import make_rerank
import make_sparse
from common import FIXTURES, Cases

GROUPS: list[Cases] = [make_dense.cases, make_sparse.cases, make_rerank.cases, make_published.cases]
TOLERANCE = 2e-6


def files_of(folder: Path) -> set[Path]:
    return {file.relative_to(folder) for file in folder.rglob("*") if file.is_file()}


def json_of(file: Path):
    content = json.loads(file.read_text(encoding="utf-8"))
    if file.name == "config_sentence_transformers.json":
        # The build of PyTorch is among the versions.
        content.pop("__version__", None)
    if file.name == "case.json":
        # Processors compute bfloat16 in different ways.
        content.pop("bfloat16", None)
    return content


def tensors_differ(made: Path, committed: Path, tolerance: float) -> bool:
    one, other = load_file(made), load_file(committed)
    return one.keys() != other.keys() or any(
        one[name].shape != other[name].shape or not np.allclose(one[name], other[name], rtol=0, atol=tolerance)
        for name in one
    )


def differs(made: Path, committed: Path) -> bool:
    if made.suffix == ".json":
        return json_of(made) != json_of(committed)
    if made.suffix == ".safetensors":
        return tensors_differ(made, committed, TOLERANCE if made.name == "expected.safetensors" else 0.0)
    return made.read_bytes() != committed.read_bytes()


def differences(made: Path, committed: Path) -> list[str]:
    names = files_of(made) | files_of(committed)
    return [
        str(name)
        for name in sorted(names)
        if not ((made / name).exists() and (committed / name).exists()) or differs(made / name, committed / name)
    ]


def main() -> None:
    cases = {name: group for group in GROUPS for name in group}
    names = sys.argv[1:] or list(cases)
    committed = {case.parent.name for case in FIXTURES.glob("*/case.json")}
    failed = sorted(committed - set(cases)) if not sys.argv[1:] else []
    for name in failed:
        print(f"{name}: no script makes it")
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            cases[name].make(name, Path(scratch))
            if different := differences(Path(scratch) / name, FIXTURES / name):
                print(f"{name}: not as committed: {', '.join(different)}")
                failed.append(name)
    if failed:
        sys.exit(f"{len(failed)} of {len(names)} cases differ from the live reference")
    print(f"{len(names)} cases agree with the live reference")


if __name__ == "__main__":
    main()
