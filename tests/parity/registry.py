"""Cases by name: each is a function that makes one folder."""

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"


class Cases(dict[str, Callable[[Path], None]]):
    """The functions of a group of cases, by the name of the case."""

    def case(self, name: str):
        """A decorator that registers the function of a case."""

        def register(make: Callable[[Path], None]):
            self[name] = make
            return make

        return register

    def named(self, names: list[str]) -> list[str]:
        """The names of a command line, or all without any. Exits on an unknown one."""
        if unknown := set(names) - set(self):
            sys.exit(f"unknown case {', '.join(sorted(unknown))}; known: {', '.join(self)}")
        return names or list(self)

    def make(self, name: str, parent: Path) -> None:
        """Makes a case's folder under `parent`. An existing folder is replaced once the new one is complete."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            self[name](folder)
            shutil.rmtree(parent / name, ignore_errors=True)
            shutil.copytree(folder, parent / name)
            for file in (parent / name).rglob("*.safetensors"):
                file.chmod(0o644)
