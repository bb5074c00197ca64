"""Stand-ins for the libraries that a CUDA program is linked with, for machines that have none of them.

    cuda_stubs.py FOLDER

Each has the name and the symbols of the real one, and no code: the linker is content, and where the program runs the
loader takes the real library. The symbols are those that the crate cudarc declares, read from its source.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

# The name for the linker, the module of the crate, and what the loader will look for.
LIBRARIES = [
    ("cuda", "driver", "libcuda.so.1"),
    ("cublas", "cublas", "libcublas.so.13"),
    ("cublasLt", "cublaslt", "libcublasLt.so.13"),
    ("curand", "curand", "libcurand.so.10"),
    ("nvrtc", "nvrtc", "libnvrtc.so.13"),
]
DECLARATION = re.compile(r"\bfn ((?:cu(?!lib\b)|nvrtc)\w+)\s*\(")


def source_of(crate: str) -> Path:
    """The folder of a crate's source, as Cargo has it."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--all-features"]
    done = subprocess.run(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, check=True)
    found = [package for package in json.loads(done.stdout)["packages"] if package["name"] == crate]
    if not found:
        sys.exit(f"cuda_stubs.py: {crate} is not among the dependencies")
    return Path(found[0]["manifest_path"]).parent / "src"


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    source = source_of("cudarc")
    for name, module, soname in LIBRARIES:
        symbols = sorted(set(DECLARATION.findall((source / module / "sys/mod.rs").read_text())))
        if not symbols:
            sys.exit(f"cuda_stubs.py: no symbols of {module} in {source}")
        code = "".join(f"void {symbol}(void) {{}}\n" for symbol in symbols)
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-x", "c", "-", "-o", folder / f"lib{name}.so"]
        subprocess.run(command, input=code.encode(), check=True)


if __name__ == "__main__":
    main()
