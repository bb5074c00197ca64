"""Makes every case again with the live reference and compares it with the committed one.

    "$(../../scripts/python-env.sh parity)" check.py [CASE...]

Texts, configurations, tokenizers and weights must be equal. Outputs must agree within the rounding that another order
of summation causes on another processor.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from cases import CASES
from registry import FIXTURES

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
    left, right = load_file(made), load_file(committed)
    return left.keys() != right.keys() or any(
        left[name].shape != right[name].shape or not np.allclose(left[name], right[name], rtol=0, atol=tolerance)
        for name in left
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
    names = CASES.named(sys.argv[1:])
    committed = {case.parent.name for case in FIXTURES.glob("*/case.json")}
    failed = sorted(committed - set(CASES)) if not sys.argv[1:] else []
    for name in failed:
        print(f"{name}: a committed case without a function")
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            CASES.make(name, Path(scratch))
            if different := differences(Path(scratch) / name, FIXTURES / name):
                print(f"{name}: differs from the committed files: {', '.join(different)}")
                failed.append(name)
    if failed:
        sys.exit(f"{len(failed)} of {len(names)} cases differ from the live reference")
    print(f"{len(names)} cases agree with the live reference")


if __name__ == "__main__":
    main()
