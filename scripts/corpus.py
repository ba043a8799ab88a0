#!/usr/bin/env python3
"""Makes data and questions from the text that is found on a machine with Rust and Python:

    scripts/corpus.py COUNT DIRECTORY

What it does    Collects paragraphs of 200 to 1,500 characters, each once, from the documentation in Python's library
                and packages, the sources of the crates that cargo has fetched, the manual pages, and the HTML pages of
                the Rust toolchains. Shuffles them in an order that is the same every time. Writes COUNT of them to
                `data.ndjson`, and others to feed while questions are asked to `more.ndjson`, one {"data": ...} a line.
                Writes 2,000 questions to `questions.txt`, one a line: all words of a sentence, some of them, or a
                question about a name or a term in it.
What it needs   only the standard library. No network.
What it returns How much it found of what, on the standard error; status 1 if the machine has too little text.
"""
import gzip
import hashlib
import html
import json
import pathlib
import random
import re
import sys
import sysconfig

SHORTEST, LONGEST = 200, 1500


def paragraphs(text):
    """The parts between blank lines that look like prose; short ones are joined with the next."""
    plain = ""
    for paragraph in re.split(r"\n\s*\n", text):
        plain = (plain + "\n" + " ".join(paragraph.split())).strip()
        if len(plain) >= SHORTEST:
            signs = len(re.findall(r"[^\w\s.,;:'()-]", plain))
            if len(plain) <= LONGEST and plain.count(" ") * 9 > len(plain) and signs * 20 < len(plain):
                yield plain
            plain = ""


def files(*patterns):
    for root, pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_file() and path.stat().st_size < 4 << 20:
                yield path


def read(path):
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return data.decode("utf-8", "replace")


def python_text():
    seen = [pathlib.Path(sysconfig.get_path("stdlib"))] + sorted(pathlib.Path("/usr/lib").glob("python3*"))
    seen += sorted(pathlib.Path.home().glob(".pyenv/versions/*/lib/python3*"))
    for path in files(*((root, "**/*.py") for root in seen)):
        text = read(path)
        yield from re.findall(r'"""(.*?)"""', text, re.S)
        yield from (re.sub(r"^[ \t]*#+ ?", "", block, flags=re.M) for block in re.findall(r"(?:^[ \t]*#.*\n)+", text, re.M))


def rust_text():
    registry = pathlib.Path.home() / ".cargo/registry/src"
    for path in files((registry, "**/*.rs")):
        for block in re.findall(r"(?:^[ \t]*//[^\n]*\n)+", read(path), re.M):
            yield re.sub(r"^[ \t]*//[/!]? ?", "", block, flags=re.M)
    for path in files((registry, "**/*.md")):
        yield read(path)


def html_text():
    for root in sorted(pathlib.Path.home().glob(".rustup/toolchains/*/share/doc/rust/html")):
        for path in files((root, "**/*.html")):
            for block in re.findall(r"<p>(.*?)</p>", read(path), re.S):
                yield html.unescape(re.sub(r"<[^>]*>", "", block))


def manual_text():
    for path in files((pathlib.Path("/usr/share/man"), "man*/*.gz"), (pathlib.Path("/usr/share/doc"), "**/*.txt*"),
                      (pathlib.Path("/usr/share/doc"), "**/README*"), (pathlib.Path("/usr/share/doc"), "**/NEWS*")):
        try:
            text = read(path)
        except OSError:
            continue
        text = re.sub(r"^[.'](?:PP|P|LP|SH|SS|TP|IP|sp|Pp|It|Sh).*$", "\n", text, flags=re.M)
        text = re.sub(r"^[.'](?:B|I|BR|RB|IR|RI|BI)\s", "", text, flags=re.M)
        text = re.sub(r"^[.'].*$\n", "", text, flags=re.M)
        yield re.sub(r"\\(?:f.|\(..|&|\|)", "", text).replace("\\-", "-")


def question(paragraph, rng):
    """One question of a kind that people ask: all or some words of a sentence, or about a name or a term in it."""
    sentences = [s for s in re.split(r"(?<=[.!?]) ", paragraph) if 6 <= s.count(" ") <= 40] or [paragraph[:200]]
    words = re.findall(r"[\w'-]+", rng.choice(sentences))
    long = [word for word in words if len(word) > 4] or words
    kind = rng.randrange(4)
    if kind == 0:
        return "What " + " ".join(words[1:16]) + "?"
    if kind == 1:
        asks = rng.choice(["How does", "Why does", "When is", "What is", "Which", "How many", "Who made"])
        return f"{asks} {' '.join(rng.sample(long, min(4, len(long))))}?"
    if kind == 2:
        at = rng.randrange(max(1, len(words) - 8))
        return f"{rng.choice(['Where', 'When', 'Why', 'How'])} {' '.join(words[at:at + 8])}?"
    return f"What is the {rng.choice(long)} of {rng.choice(long)}?"


def main():
    count, directory = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    wanted, found = count + count // 2, {}
    for source in (manual_text, rust_text, python_text, html_text):
        before = len(found)
        for text in source():
            for paragraph in paragraphs(text):
                found.setdefault(hashlib.sha1(paragraph.lower().encode()).digest(), paragraph)
        print(f"{source.__name__}: {len(found) - before} paragraphs", file=sys.stderr)
        if len(found) >= wanted:
            break
    rng = random.Random(1)
    texts = sorted(found.values())
    rng.shuffle(texts)
    if len(texts) < wanted:
        sys.exit(f"this machine has {len(texts)} paragraphs, and {wanted} are needed")
    directory.mkdir(parents=True, exist_ok=True)
    for name, part in (("data", texts[:count]), ("more", texts[count:wanted])):
        with open(directory / f"{name}.ndjson", "w") as out:
            out.writelines(json.dumps({"data": text}, ensure_ascii=False) + "\n" for text in part)
    asked = [question(rng.choice(texts[:count]), rng) for _ in range(2000)]
    (directory / "questions.txt").write_text("\n".join(asked) + "\n")
    size = sum(map(len, texts[:count]))
    print(f"{count} data of {size // count} characters on average, {len(texts) - count} more", file=sys.stderr)


if __name__ == "__main__":
    main()
