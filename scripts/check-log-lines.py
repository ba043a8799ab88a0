#!/usr/bin/env python3
"""Compares docs/logging.md with what the programs log:

    scripts/check-log-lines.py           1 if a line or a field is missing on the page, or is there and is logged no more
    scripts/check-log-lines.py --table   prints the table as it should be

What it reads   the calls of info!, warn!, error! and debug! in crates/*/src, but for tests. A message that is put together at run
                time is in the page by the words in its source.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/logging.md"
BEGIN, END = "<!-- by scripts/check-log-lines.py --table -->\n", "<!-- end -->\n"


def calls(text):
    """The level and the arguments of each call that logs."""
    for found in re.finditer(r"\b(info|warn|error|debug)!\(", text):
        at, depth, is_string = found.end(), 1, False
        while depth:
            letter = text[at]
            if letter == "\\" and is_string:
                at += 1
            elif letter == '"':
                is_string = not is_string
            elif not is_string:
                depth += (letter == "(") - (letter == ")")
            at += 1
        yield found[1], text[found.end() : at - 1]


def lines():
    """Level, crate, message and fields of every line."""
    for path in sorted(ROOT.glob("crates/*/src/**/*.rs")):
        if path.name.endswith("tests.rs"):
            continue
        text = re.split(r"#\[cfg\(test\)\]\n(?:#\[.*\]\n)*mod ", path.read_text(encoding="utf-8"))[0]
        for level, arguments in calls(text):
            strings = re.findall(r'"((?:[^"\\]|\\.)*)"', arguments, re.S)
            if not strings:
                continue
            message = re.sub(r"\\\n\s*", "", strings[-1])
            bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", arguments)
            bare = re.sub(r"\([^()]*\)", "", bare)
            fields = re.findall(r"(?:^|,)\s*[%?]?([a-z_][a-z_.]*)\s*(?==|,|$)", bare)
            yield level, path.relative_to(ROOT / "crates").parts[0].removeprefix("multivac-"), message, fields


def table():
    rows = sorted({(crate, {"debug": 3, "info": 2, "warn": 1, "error": 0}[level], level, message, tuple(fields)) for level, crate, message, fields in lines()})
    yield "| in | level | message | fields |"
    yield "| --- | --- | --- | --- |"
    for crate, _, level, message, fields in rows:
        yield f"| {crate} | {level} | {message} | {', '.join(f'`{field}`' for field in fields)} |".replace("|  |", "| |")


def main():
    wanted = "\n".join(table()) + "\n"
    if sys.argv[1:] == ["--table"]:
        print(wanted, end="")
        return 0
    page = PAGE.read_text(encoding="utf-8")
    shown = page.partition(BEGIN)[2].partition(END)[0].strip("\n") + "\n"
    said = [f"not on the page: {row}" for row in wanted.splitlines() if row not in shown.splitlines()]
    said += [f"on the page alone: {row}" for row in shown.splitlines() if row not in wanted.splitlines()]
    explained = set(re.findall(r"^\| `([a-z_.]+)` \|", page, re.M))
    used = {field for _, _, _, fields in lines() for field in fields}
    said += [f"a field without a row: {field}" for field in sorted(used - explained)]
    for line in said:
        print(f"check-log-lines: {line}")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
