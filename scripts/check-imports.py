#!/usr/bin/env python3
"""Finds modules that import each other in a loop:

    scripts/check-imports.py [CRATE…]     crates/* unless given

Reads every path that begins with crate::, super:: or self:: in the files under CRATE/src, in `use` and elsewhere, and takes
it for an import of the file where the named thing is defined; a `pub use` in between is followed to what it names. A
module that uses its own children is no loop, since they are parts of it: only imports upwards and sideways count.
Tests are left out.

Prints each loop with the lines that make it. Status 1 if there is any.
"""
import os
import pathlib
import re
import sys

IGNORED = re.compile(
    r'(?P<comment>//[^\n]*|/\*.*?\*/)|b?r(?P<raw>#*)".*?"(?P=raw)|b?"(?:\\.|[^"\\])*"|b?\'(?:\\[^\n]+?|[^\\\'\n])\'', re.S)
TEST = re.compile(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?(?:mod\s+\w+|fn\s[^{;]*|impl\s[^{;]*)\s*(?P<end>[{;])")
USE = re.compile(r"(?P<public>\bpub(?:\([^)]*\))?\s+)?\buse\s+(?P<tree>[^;]+);")
PATH = re.compile(r"\b(?:crate|super|self)(?:::\w+)+")


def blank(text, start, end):
    """The text with a part of it made blank, so that all lines keep their numbers."""
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]


def without_tests(text):
    text = IGNORED.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    while found := TEST.search(text):
        end = found.end()
        depth = 1 if found["end"] == "{" else 0
        while depth and end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        text = blank(text, found.start(), end)
    return text


def leaves(tree):
    """`a::{b as c, d::*}` to (a::b, its name here, c), (a::d, *)."""
    tree = tree.strip()
    head, brace, rest = tree.partition("{")
    if not brace:
        path, _, alias = tree.partition(" as ")
        parts = [part.strip() for part in path.split("::") if part.strip()]
        if len(parts) > 1 and parts[-1] == "self":
            parts.pop()
        yield parts, alias.strip() or parts[-1]
        return
    depth, start = 0, 0
    inner = rest[: rest.rindex("}")] + ","
    for at, character in enumerate(inner):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            if inner[start:at].strip():
                for parts, name in leaves(inner[start:at]):
                    yield [part for part in head.strip().split("::") if part] + parts, name
            start = at + 1


class Crate:
    def __init__(self, directory):
        self.source = directory / "src"
        self.files = {}  # a module's path, as a tuple, to its file
        for file in sorted(self.source.rglob("*.rs")):
            relative = file.relative_to(self.source)
            if relative.parts[0] == "bin" or file.stem.endswith("_tests") or file.stem == "tests":
                continue
            parts = relative.with_suffix("").parts
            self.files.setdefault(parts[:-1] if parts[-1] in ("lib", "main", "mod") else parts, file)
        self.texts = {module: without_tests(file.read_text()) for module, file in self.files.items()}
        self.exports = {}  # a module to the names that it exports from elsewhere: the path of each
        for module, text in self.texts.items():
            for found in USE.finditer(text):
                if found["public"]:
                    for path, name in leaves(found["tree"]):
                        self.exports.setdefault(module, {})[name] = path

    def resolve(self, module, path):
        """A path, seen from a module, as one from the crate's root."""
        at, path = list(module), list(path)
        if path[0] == "crate":
            return tuple(path[1:])
        while path and path[0] in ("super", "self"):
            if path.pop(0) == "super" and at:
                at.pop()
        return tuple(at + path)

    def definition(self, path, depth=0):
        """The module whose file defines what a path from the root names."""
        length = next(n for n in range(len(path), -1, -1) if path[:n] in self.files)
        module, rest = path[:length], path[length:]
        exported = self.exports.get(module, {}).get(rest[0]) if rest and depth < 9 else None
        if exported:
            target = self.definition(self.resolve(module, exported) + rest[1:], depth + 1)
            return target if target != () else module
        return module

    def imports(self):
        """Of each module: the modules that it imports, with a line for each."""
        graph = {}
        for module, text in self.texts.items():
            found = [(match.start(), match[0].split("::")) for match in PATH.finditer(text)]
            for use in USE.finditer(text):
                found += [(use.start(), path) for path, _ in leaves(use["tree"]) if path[0] in ("crate", "super", "self")]
            for start, path in found:
                target = self.definition(self.resolve(module, path))
                if target[: len(module)] != module:
                    line = text.count("\n", 0, start) + 1
                    graph.setdefault(module, {}).setdefault(target, line)
        return graph


def loops(graph):
    """Strongly connected components of more than one node (Tarjan 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, {}):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            part = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(part) > 1:
                found.append(part)

    for node in list(graph):
        if node not in index:
            visit(node)
    return found


def main(directories):
    count = 0
    for directory in directories:
        crate = Crate(directory)
        graph = crate.imports()
        for part in loops(graph):
            count += 1
            print(f"a loop of {len(part)} files in {directory}:")
            for module in sorted(part):
                lines = crate.files[module].read_text().splitlines()
                for target, line in sorted(graph[module].items()):
                    if target in part:
                        print(f"  {crate.files[module].relative_to(directory)}:{line} imports "
                              f"{crate.files[target].relative_to(directory)}: {lines[line - 1].strip()[:80]}")
    print(f"check-imports: {count} loops")
    return 1 if count else 0


if __name__ == "__main__":
    given = [pathlib.Path(argument).resolve() for argument in sys.argv[1:]]
    root = pathlib.Path(__file__).resolve().parent.parent
    os.chdir(root)
    sys.exit(main(given or sorted(path.parent.relative_to(root) for path in root.glob("crates/*/src"))))
