"""Builds stubs of the libraries that a CUDA program is linked with, for machines without these libraries.

    cuda_stubs.py FOLDER

A stub has the name and the symbols of the real library, and no code. It satisfies the linker; at run time the loader
loads the real library. The symbols are those that the source of the crate cudarc declares.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

# The name for the linker, the module of the crate, and the file name for the loader.
LIBRARIES = [
    ("cuda", "driver", "libcuda.so.1"),
    ("cublas", "cublas", "libcublas.so.13"),
    ("cublasLt", "cublaslt", "libcublasLt.so.13"),
    ("curand", "curand", "libcurand.so.10"),
    ("nvrtc", "nvrtc", "libnvrtc.so.13"),
]
DECLARATION = re.compile(r"\bfn ((?:cu(?!lib\b)|nvrtc)\w+)\s*\(")


def source_of(crate: str) -> Path:
    """The folder of a crate's source in the Cargo registry."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--all-features"]
    result = subprocess.run(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, check=True)
    packages = [package for package in json.loads(result.stdout)["packages"] if package["name"] == crate]
    if not packages:
        sys.exit(f"cuda_stubs.py: {crate} is not a dependency")
    return Path(packages[0]["manifest_path"]).parent / "src"


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    source = source_of("cudarc")
    for name, module, soname in LIBRARIES:
        symbols = sorted(set(DECLARATION.findall((source / module / "sys/mod.rs").read_text())))
        if not symbols:
            sys.exit(f"cuda_stubs.py: found no symbols of {module} in {source}")
        code = "".join(f"void {symbol}(void) {{}}\n" for symbol in symbols)
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-x", "c", "-", "-o", folder / f"lib{name}.so"]
        subprocess.run(command, input=code.encode(), check=True)


if __name__ == "__main__":
    main()
