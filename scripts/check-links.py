#!/usr/bin/env python3
"""Checks the relative links of all Markdown files of the repository: the file exists, and so does the #anchor in it.

Prints FILE:LINE: MESSAGE for each broken link and exits with 1 if there is one. Anchors follow GitHub's rules. Links to
other sites are not opened.
"""

import re
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r" {0,3}(?P<mark>`{3,}|~{3,})")
CODE = re.compile(r"(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
HEADING = re.compile(r" {0,3}#{1,6}\s+(?P<text>.*?)\s*#*\s*$")
LINK = re.compile(r"\]\(\s*<?(?P<target>[^)>\s]+)>?(?:\s+[\"'][^)]*)?\)")
DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?(?P<target>[^>\s]+)>?", re.MULTILINE)
ATTRIBUTE = re.compile(r"<(?:a|img)\b[^>]*?\b(?:href|src)=\"(?P<target>[^\"]+)\"")
ID = re.compile(r"<[a-z][^>]*?\b(?:id|name)=\"(?P<id>[^\"]+)\"")
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def blank(text: str) -> str:
    """Spaces in place of the text, so that line numbers stay."""
    return re.sub(r"[^\n]", " ", text)


def without_blocks(text: str) -> str:
    """The text with its fenced code blocks blanked."""
    lines, fence = [], None
    for line in text.split("\n"):
        mark = FENCE.match(line)
        inside = fence is not None
        if mark and not inside:
            fence = mark["mark"]
        elif mark and mark["mark"].startswith(fence) and not line.strip(" `~"):
            fence = None
        lines.append(blank(line) if mark or inside else line)
    return "\n".join(lines)


def slug(heading: str) -> str:
    """GitHub's anchor of a heading: lower case, spaces to hyphens, punctuation dropped."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    kept = (letter for letter in text if letter in "-_ " or unicodedata.category(letter)[0] in "LMN")
    return "".join(kept).replace(" ", "-")


@cache
def anchors(path: Path) -> frozenset[str]:
    text = without_blocks(path.read_text(encoding="utf-8"))
    found, seen = {match["id"] for match in ID.finditer(text)}, {}
    for line in text.split("\n"):
        if heading := HEADING.match(line):
            name = slug(heading["text"])
            count = seen.get(name, 0)
            seen[name] = count + 1
            found.add(f"{name}-{count}" if count else name)
    return frozenset(found)


def problem(source: Path, target: str) -> str | None:
    """Why a link cannot be followed; None for a good link."""
    name, _, anchor = unquote(target).partition("#")
    path = (source.parent / name).resolve() if name else source
    if not path.is_relative_to(ROOT):
        return f"{target}: target is outside of the repository"
    if not path.exists():
        return f"{target}: target missing"
    if anchor and path.suffix == ".md" and anchor not in anchors(path):
        return f"{target}: no heading with the anchor #{anchor}"
    return None


def links(path: Path) -> list[tuple[int, str]]:
    """The line and target of every link."""
    text = without_blocks(path.read_text(encoding="utf-8"))
    for pattern in (COMMENT, CODE):
        text = pattern.sub(lambda match: blank(match[0]), text)
    matches = [match for pattern in (LINK, DEFINITION, ATTRIBUTE) for match in pattern.finditer(text)]
    return sorted((text.count("\n", 0, match.start("target")) + 1, match["target"]) for match in matches)


def main() -> int:
    command = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    files = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    checked = broken = 0
    for path in files:
        for line, target in links(path):
            if SCHEME.match(target):
                continue
            checked += 1
            if message := problem(path, target):
                broken += 1
                print(f"{path.relative_to(ROOT)}:{line}: {message}", file=sys.stderr)
    print(f"{checked} links in {len(files)} files, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
