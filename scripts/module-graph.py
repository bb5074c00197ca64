#!/usr/bin/env python3
"""The graph of the modules of a crate: which file uses which, checked for circles and for the order of the layers.

    module-graph.py                 checks all crates of the product; exits with 1 and reports every circle
    module-graph.py --mermaid       prints the folders of the runner as a mermaid graph
    module-graph.py --write FILE    writes that graph between the markers of a Markdown file

A file uses another if it names an item that is defined there; `pub use` in a mod.rs only passes names on, so it is no use.
Tests (files tests.rs, *_tests.rs and items below `#[cfg(test)]`) are left out: a test may use everything.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATES = {
    "crds": ROOT / "crds/src",
    "kernels": ROOT / "runner/kernels/src",
    "operator": ROOT / "operator/src",
    "report": ROOT / "runner/report/src",
    "runner": ROOT / "runner/src",
}

# The layers of the runner, from the top: a folder uses only folders below it.
LAYERS = [
    "main", "cli", "run", "retrieval", "export", "pass", "model", "tokenizer", "ops", "device", "plan", "hub", "spill",
    "source", "store", "vectors", "config", "process",
]

BEGIN, END = "<!-- module graph: begin -->", "<!-- module graph: end -->"

IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
DEFINITION = re.compile(
    rf"^(?:pub(?:\([^)]*\))? )?(?:unsafe )?(?:async )?(?:const )?"
    rf"(?:struct|enum|trait|fn|type|static|const|union)\s+({IDENTIFIER})"
)


class Module:
    """A file as a module: its path in the crate, its text without tests, and the names that it defines or passes on."""

    def __init__(self, path, file):
        self.path = path
        self.file = file
        self.text = code(file.read_text())
        self.defines = {found.group(1) for line in self.text.splitlines() if (found := DEFINITION.match(line))}
        self.passes_on = {}
        self.imports = {}
        for public, paths in use_statements(self.text):
            for name, target in paths:
                (self.passes_on if public else self.imports)[name] = target


def code(text):
    """The text without comments, strings and tests."""
    text = re.sub(r'(?s)r#".*?"#|"(?:\\.|[^"\\])*"', '""', text)
    text = re.sub(r"//[^\n]*", "", text)
    kept, lines, skip = [], text.splitlines(), None
    index = 0
    while index < len(lines):
        line = lines[index]
        if skip is None and re.match(r"\s*#\[cfg\(test\)\]", line):
            # The item below: to the brace that closes it, or to the end of its statement.
            depth, index = 0, index + 1
            while index < len(lines):
                depth += lines[index].count("{") - lines[index].count("}")
                ended = depth <= 0 and re.search(r"[;}]\s*$", lines[index])
                index += 1
                if ended:
                    break
            continue
        kept.append(line)
        index += 1
    return "\n".join(kept)


def use_statements(text):
    """Whether each `use` is public, and its (name, path) pairs."""
    for found in re.finditer(r"(?m)^\s*(pub(?:\([^)]*\))? )?use ([^;]+);", text):
        yield bool(found.group(1)), list(leaves(found.group(2)))


def leaves(tree):
    """The (name, path) pairs of a use tree."""
    tokens = re.findall(rf"{IDENTIFIER}|::|[{{}},*]", tree)

    def walk(at, prefix):
        path = list(prefix)
        while at < len(tokens):
            token = tokens[at]
            if token == "{":
                at += 1
                while tokens[at] != "}":
                    at = yield from walk(at, path)
                    if tokens[at] == ",":
                        at += 1
                return at + 1
            if token in ",}":
                break
            if token == "as":
                yield tokens[at + 1], path
                return at + 2
            if token != "::":
                path.append(token)
            at += 1
        if path and path[-1] == "self":
            path.pop()
        if path:
            yield path[-1], path
        return at

    result = []
    walker = walk(0, [])
    try:
        while True:
            result.append(next(walker))
    except StopIteration:
        pass
    return result


def read(source):
    """The modules of a crate by their path, a tuple of names."""
    modules = {}
    for file in sorted(source.rglob("*.rs")):
        parts = list(file.relative_to(source).with_suffix("").parts)
        if parts[0] == "bin" or parts[-1] == "tests" or parts[-1].endswith("_tests"):
            continue
        if parts[-1] in ("mod", "lib"):
            parts.pop()
        modules[tuple(parts)] = Module(tuple(parts), file)
    return modules


def resolve(modules, at, path, seen=()):
    """The module that defines what `path` names in the module `at`; None if it is another crate's."""
    if not path or (at, tuple(path)) in seen:
        return None
    seen = (*seen, (at, tuple(path)))
    head, rest = path[0], path[1:]
    if head == "crate":
        return below(modules, (), rest, seen)
    if head == "self":
        return below(modules, at, rest, seen)
    if head == "super":
        return below(modules, at[:-1], rest, seen) if rest[:1] != ["super"] else resolve(modules, at[:-1], rest, seen)
    module = modules[at]
    if head in module.imports or head in module.passes_on:
        target = module.imports.get(head) or module.passes_on[head]
        if target[0] == head:
            # `use plan::plan`: the first is the module beside, or another crate.
            return below(modules, (*at, head), target[1:] + rest, seen) if (*at, head) in modules else None
        return resolve(modules, at, target + rest, seen)
    if (*at, head) in modules and rest:
        return below(modules, (*at, head), rest, seen)
    return None


def below(modules, at, path, seen):
    """The module that defines what `path` names, from the module `at` downwards."""
    while path and (*at, path[0]) in modules:
        at, path = (*at, path[0]), path[1:]
    if path and path[0] == "super":
        return below(modules, at[:-1], path[1:], seen)
    module = modules.get(at)
    if module is None:
        return None
    if path and path[0] in module.passes_on and path[0] not in module.defines:
        return resolve(modules, at, module.passes_on[path[0]] + path[1:], seen)
    # A module that is named as such is used once something in it is.
    return at if path else None


def uses(modules):
    """The modules that each module uses."""
    graph = {}
    for at, module in modules.items():
        body = re.sub(r"(?m)^\s*pub(?:\([^)]*\))? use [^;]+;", "", module.text)
        used = set()
        statements = list(use_statements(body))
        body = re.sub(r"(?ms)^\s*use [^;]+;", "", body)
        for _, paths in statements:
            used.update(resolve(modules, at, path) for _, path in paths)
        for found in re.finditer(rf"\b{IDENTIFIER}(?:::{IDENTIFIER})+", body):
            used.add(resolve(modules, at, found.group(0).split("::")))
        for name in re.findall(rf"(?<!::)\b{IDENTIFIER}\b", body):
            if name in module.passes_on:
                used.add(resolve(modules, at, module.passes_on[name]))
        graph[at] = {target for target in used if target is not None and target != at}
    return graph


def circles(graph):
    """The strongly connected components of more than one module (Tarjan, 1972)."""
    index, low, stack, on_stack, found = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on_stack.add(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in on_stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = []
            while True:
                component.append(stack.pop())
                on_stack.discard(component[-1])
                if component[-1] == node:
                    break
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def folders(graph):
    """The graph of the topmost folders, with the uses that make each edge."""
    edges = {}
    for at, targets in graph.items():
        for target in targets:
            one, other = at[0] if at else "lib", target[0] if target else "lib"
            if one != other:
                edges.setdefault((one, other), []).append((at, target))
    return edges


def name(path):
    return "::".join(path) or "lib.rs"


def check():
    """Prints every circle and every use against the layers; the answer is their number."""
    faults = 0
    for crate, source in CRATES.items():
        modules = read(source)
        graph = uses(modules)
        for component in circles(graph):
            faults += 1
            print(f"{crate}: a circle of {len(component)} modules")
            for at in component:
                for target in sorted(graph[at] & set(component)):
                    print(f"  {modules[at].file.relative_to(ROOT)} uses {name(target)}")
        edges = folders(graph)
        top = {}
        for one, other in edges:
            top.setdefault(one, set()).add(other)
            top.setdefault(other, set())
        for component in circles({(one,): {(other,) for other in others} for one, others in top.items()}):
            faults += 1
            print(f"{crate}: a circle of folders: {', '.join(name(folder) for folder in component)}")
            for (one, other), reasons in sorted(edges.items()):
                if (one,) in component and (other,) in component:
                    print(f"  {one} uses {other}: " + ", ".join(f"{name(at)} → {name(target)}" for at, target in reasons[:4]))
        if crate == "runner":
            for (one, other), reasons in sorted(edges.items()):
                if one in LAYERS and other in LAYERS and LAYERS.index(one) > LAYERS.index(other):
                    faults += 1
                    print(f"runner: {one} is below {other}, but uses it: {name(reasons[0][0])} → {name(reasons[0][1])}")
        print(f"{crate}: {len(modules)} modules, {sum(map(len, graph.values()))} uses")
    return faults


def mermaid():
    """The folders of the runner as a mermaid graph, without edges that others imply."""
    edges = {edge for edge in folders(uses(read(CRATES["runner"]))) if set(edge) <= set(LAYERS) - {"main"}}
    reach = {layer: set() for layer in LAYERS}
    for layer in reversed(LAYERS):
        for one, other in edges:
            if one == layer:
                reach[layer] |= {other} | reach[other]
    direct = [
        (one, other)
        for one, other in edges
        if not any(other in reach[between] for first, between in edges if first == one and between != other)
    ]
    direct.sort(key=lambda edge: (LAYERS.index(edge[0]), LAYERS.index(edge[1])))
    return "\n".join(["```mermaid", "graph TD"] + [f"  {one} --> {other}" for one, other in direct] + ["```"])


def main():
    arguments = sys.argv[1:]
    if arguments == ["--mermaid"]:
        print(mermaid())
    elif len(arguments) == 2 and arguments[0] == "--write":
        file = Path(arguments[1])
        before, rest = file.read_text().split(BEGIN)
        after = rest.split(END)[1]
        file.write_text(f"{before}{BEGIN}\n{mermaid()}\n{END}{after}")
    elif not arguments:
        sys.exit(1 if check() else 0)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
