#!/usr/bin/env python3
"""Writes what scale.sh has measured into the documentation, and says what MongoDB's collections take:

    scripts/scale-report.py DIRECTORY DOCS          DOCS/performance.md between its marks, DOCS/performance/growth.svg
    scripts/scale-report.py collections MONGO_URL   rows for scale.sh

What it does    Reads DIRECTORY/COUNT.rows of each step that is done, embedded.rows, and load.rows if `ROWS=DIRECTORY/load.rows
                scripts/load.sh` has written it. Replaces what is between <!-- NAME --> and <!-- end of NAME --> in performance.md,
                and nothing else of it; a block for which nothing was measured stays as it is.
What it needs   only the standard library; pymongo for the collections.
What it returns Nothing; status 1 and the reason if there is nothing to report.
"""
import math
import pathlib
import re
import sys

MIB = 1024  # KiB
GIB = 1024 * MIB


class Step:
    """The rows of one file, by phase: the last of each name, since a run that was ended may have begun some twice."""

    def __init__(self, path):
        self.rows = {}
        for line in path.read_text().splitlines():
            phase, *cells = line.split("\t")
            self.rows.setdefault(phase, {})[cells[0] if cells else ""] = cells
        self.name = path.stem
        self.is_done = "done" in self.rows

    def client(self, phase, name, column):
        """A cell of a row of the load client."""
        columns = ["what", "count", "seconds", "rate", "p50", "p90", "p99", "max", "not 200"]
        cells = self.rows.get(phase, {}).get(name)
        return float(cells[columns.index(column)]) if cells and cells[columns.index(column)] != "-" else None

    def cell(self, phase, name, column):
        cells = self.rows.get(phase, {}).get(name)
        return float(cells[column]) if cells and len(cells) > column and cells[column] else None

    @property
    def count(self):
        return int(self.name)

    @property
    def learned_rate(self):
        fed, seconds = (self.client("fed", "long texts in bulk, the worker waited for", name) for name in ("count", "seconds"))
        queued = self.client("queued", "long texts in bulk: accepted", "count") or 0
        return (fed + queued) / (seconds + self.client("learned", "learned", "seconds"))

    @property
    def learned(self):
        """All that it had learned when its memory and disk were measured, what was fed beside questions included; in millions."""
        return (self.client("caught-up", "learned", "count") or self.count) / 1e6

    def right(self, phase):
        right, wrong = (self.client(phase, name, "count") for name in ("  answered rightly", "  not answered rightly"))
        return None if right is None else 100 * right / (right + wrong)

    @property
    def memory(self):
        """Of api, worker, Redis and mongod together, files included."""
        return sum(self.cell("memory", name, 1) or 0 for name in ("api", "worker", "redis", "mongod"))


def number(value, unit=""):
    if value is None:
        return "–"
    text = f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
    return text + unit


def size(kib):
    if kib is None:
        return "–"
    return f"{kib / GIB:.1f} GiB" if kib >= GIB else f"{kib / MIB:.0f} MiB"


def two(step, phase, name):
    return f"{number(step.client(phase, name, 'p50'))} / {number(step.client(phase, name, 'p99'))}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def millions(count):
    return f"{count / 1e6:g} million" if count >= 1e6 else f"{count:,}"


ALONE, CHAINED, VARIOUS = "accepted to answered, alone", "accepted to answered, chained", "ask various questions"


def growth(steps):
    rows = [
        ("fed in bulk, data a second (while the worker learns)", lambda s: number(s.client("fed", "long texts in bulk: accepted", "rate"))),
        ("fed in single POSTs, data a second (while it learns)", lambda s: number(s.client("posts", "feed /multivac/data: accepted", "rate"))),
        ("fed and learned, data a second", lambda s: number(s.learned_rate)),
        ("accepted to answered, alone: p50 / p99 ms", lambda s: two(s, "alone", ALONE)),
        ("accepted to answered, chained: p50 / p99 ms", lambda s: two(s, "chained", CHAINED)),
        ("question at rest: p50 / p99 ms", lambda s: two(s, "rest", "questions at rest")),
        ("question while 1,000 a second are fed: p50 / p99 ms", lambda s: two(s, "under", "questions under feed")),
        ("questions answered rightly", lambda s: number(s.right("rest"), " %")),
        ("a fresh replica is ready after, s", lambda s: number(s.client("fresh", "a fresh replica", "seconds"))),
        ("a replica with its kept index is ready after, s", lambda s: number(s.client("kept", "a replica with its kept index", "seconds"))),
        ("api: its own memory / with mapped files", lambda s: f"{size(s.cell('memory', 'api', 2))} / {size(s.cell('memory', 'api', 1))}"),
        ("a fresh replica: most memory while it loads", lambda s: size(s.cell("restart", "fresh", 4))),
        ("index on the disk", lambda s: size(s.cell("disk", "index", 1))),
        ("MongoDB: data and indexes / with oplog and journal", lambda s: f"{size(s.cell('disk', 'collections', 1))} / {size(s.cell('disk', 'mongod', 1))}"),
        ("memory of mongod / worker / Redis", lambda s: " / ".join(size(s.cell("memory", name, 1)) for name in ("mongod", "worker", "redis"))),
        ("memory of all four", lambda s: size(s.memory)),
    ]
    return table(["", *(millions(step.count) for step in steps)], [[name, *(of(step) for step in steps)] for name, of in rows])


def slope(steps, value):
    """KiB for a million data: from the first step to the last, so that what a process takes anyhow is left out."""
    points = [(step.learned, value(step)) for step in steps if value(step) is not None]
    if not points:
        return None
    (n, v), (m, w) = points[0], points[-1]
    return max(0, (w - v) / (m - n)) if len(points) > 1 else v / n


PARTS = {
    "api, its own memory": (lambda s: s.cell("memory", "api", 2), "the id of each datum and the hash of each passage, what is not in a segment yet, buffers"),
    "api, index on the disk": (lambda s: s.cell("disk", "index", 1), "terms, the passages themselves and where their words are (not compressed); mapped, and in memory as far as it is asked for"),
    "MongoDB, data": (lambda s: s.cell("disk", "documents", 1), "each text and its passages (compressed): the truth"),
    "MongoDB, indexes": (lambda s: s.cell("disk", "indexes", 1), "ids, and which data are retracted"),
    "worker, its own memory": (lambda s: s.cell("memory", "worker", 2), "the batches under way: does not grow with the data"),
}


def per_million(steps, embedded):
    rows = [[name, size(slope(steps, value)), holds] for name, (value, holds) in PARTS.items()]
    queued = next((list(step.rows["redis-bytes"].values())[-1] for step in steps if "redis-bytes" in step.rows), None)
    if queued and queued[0]:
        each = float(queued[0]) / float(queued[1])
        rows.append(["Redis, each million that is queued", size(each * 1e6 / 1024), f"the text and its id, {each:,.0f} bytes a datum, until it is learned"])
    if embedded:
        database = embedded.cell("disk", "multivac.db", 1) / (embedded.client("fed", "long texts in bulk: accepted", "count") / 1e6)
        rows.append(["embedded: multivac.db", size(database), "queue and store in one file, not compressed"])
    text = sum(step.client("fed", "bytes of their text", "count") for step in steps)
    fed = sum(step.client("fed", "bytes of their text", "rate") and step.client("fed", "long texts in bulk: accepted", "count") for step in steps)
    rows.append(["for comparison: the text itself", size(text / fed * 1e6 / 1024), f"{text / fed:,.0f} bytes a datum"])
    return table(["a million data", "takes", "holds"], rows)


def computed(steps):
    last = steps[-1]

    def at(value, count):
        return value(last) + slope(steps, value) * (count / 1e6 - last.learned)

    rows = []
    for name in ("api, its own memory", "api, index on the disk", "MongoDB, data", "MongoDB, indexes"):
        value = PARTS[name][0]
        if value(last) is not None:
            rows.append([name, *(size(at(value, count)) for count in (100e6, 1e9))])
    days = [f"{count / last.learned_rate / 86400:.1f} days" for count in (100e6, 1e9)]
    rows.append([f"feeding it all, at {last.learned_rate:,.0f} a second", *days])
    return table(["computed", "100 million", "a billion"], rows)


LIKE_WITH_LIKE = ("learned against insertMany, nobody following either", "learned against insertMany, an api following both")

# The figures that users feel: what they were at two million data before index and way in were made faster, and where in
# load.sh's rows they are now.
BEFORE = [
    ("accepted to answered, one at a time: p50 ms", "13–31", lambda load: number(load.client(*load.named(ALONE, 1), "p50"))),
    ("chained, one after the other: p50 / p99 ms", "51–102 / 110–395", lambda load: two(load, *load.named(CHAINED, 0))),
    ("with 8,000 a second beside it: p50 / p99 ms", "240–300 / 500", lambda load: two(load, *load.named(ALONE, 2))),
    ("POST against redis-benchmark's XADD", "0.47", lambda load: load.said.get("POST against XADD", "–")),
    ("learned against insertMany", "–", lambda load: load.said.get("learned against insertMany", "–")),
    *((name, "–", lambda load, name=name: load.said.get(name, "–")) for name in LIKE_WITH_LIKE),
    ("a fresh replica is ready, s", "39", lambda load: number(load.client(*load.named("a fresh replica: ready", 0), "seconds"))),
    ("a replica with its kept index is ready, s", "–", lambda load: number(load.client(*load.named("a replica with its kept index: ready", 0), "seconds"))),
    ("one asker, while 1,000 a second are fed: question p50 / p99 ms", "2.3 / 8", lambda load: two(load, *load.named(VARIOUS, 1))),
    ("64 askers at once: question p50 / p99 ms", "–", lambda load: two(load, *load.named(VARIOUS, 0))),
    ("memory of a fresh replica", "434 MiB", lambda load: load.said.get("memory of the fresh replica", "–")),
    ("its index on the disk", "340 MiB", lambda load: load.said.get("its index on the disk", "–")),
]


class Load(Step):
    """What load.sh has printed of the full system: rows of one name are told apart by their order."""

    def __init__(self, path):
        self.rows, self.name, self.said = {}, path.stem, {}
        is_full = False
        for line in path.read_text().splitlines():
            cells = line.split("\t")
            if line.startswith(("Full", "Embedded")):
                is_full = line.startswith("Full")
            elif is_full and len(cells) > 1:
                order = sum(1 for phase in self.rows if phase.startswith(cells[0] + "#"))
                self.rows[f"{cells[0]}#{order}"] = {cells[0]: cells}
            elif is_full and ": " in line:
                name, _, value = line.partition(": ")
                self.said[name] = value

    def named(self, name, order):
        return f"{name}#{order}", name

    @property
    def count(self):
        return int(self.client(*self.named("learned", 0), "count"))


def before_and_now(load):
    if not load:
        return "Not measured yet: `ROWS=scale/load.rows scripts/load.sh 1000000` writes it."
    head = f"`scripts/load.sh`, {millions(load.count)} short data:"
    return f"{head}\n\n{table(['', 'before', 'now'], [[name, before, of(load)] for name, before, of in BEFORE])}"


# --- the plot ----------------------------------------------------------------------------------------------------------

STYLE = """text { font: 12px sans-serif; fill: #333 } .title { font-weight: bold } .grid { stroke: #ccc; stroke-width: 1 }
.a { stroke: #0072b2; fill: #0072b2 } .b { stroke: #d55e00; fill: #d55e00 } .c { stroke: #00805a; fill: #00805a } .d { stroke: #a4508b; fill: #a4508b }
polyline { fill: none !important; stroke-width: 2 } text.a, text.b, text.c, text.d { stroke: none }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .grid { stroke: #555 } .a { stroke: #56b4e9; fill: #56b4e9 }
.b { stroke: #f0904d; fill: #f0904d } .c { stroke: #3ccf9c; fill: #3ccf9c } .d { stroke: #e39acb; fill: #e39acb } }"""


def round_up(value):
    """To what four lines divide evenly for the eye."""
    power = 10 ** math.floor(math.log10(value or 1))
    return next(power * step for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if power * step >= value)


def panel(left, top, title, unit, lines, last):
    width, height, parts = 300, 170, []
    most = round_up(max([value for _, points in lines for _, value in points] or [1]))

    def place(n, value):
        return f"{left + width * n / last:.1f},{top + height - height * value / most:.1f}"

    parts.append(f'<text class="title" x="{left}" y="{top - 12}">{title}, {unit}</text>')
    for step in range(5):
        y = top + height - height * step / 4
        parts.append(f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{most * step / 4:,.10g}</text>')
        parts.append(f'<text x="{left + width * step / 4}" y="{top + height + 16}" text-anchor="middle">{last * step / 4:.10g}</text>')
    parts.append(f'<text x="{left + width / 2}" y="{top + height + 32}" text-anchor="middle">million data</text>')
    for order, (name, points) in enumerate(lines):
        kind = "abcd"[order]
        parts.append(f'<polyline class="{kind}" points="{" ".join(place(n, value) for n, value in points)}"/>')
        parts.extend(f'<circle class="{kind}" r="3" cx="{xy[0]}" cy="{xy[1]}"/>' for xy in (place(*point).split(",") for point in points))
        parts.append(f'<text class="{kind}" x="{left + width + 10}" y="{top + 12 + 18 * order}">{name}</text>')
    return parts


def plot(steps):
    def line(name, value):
        return name, [(step.count / 1e6, value(step)) for step in steps if value(step) is not None]

    def client(name, *where):
        return line(name, lambda step: step.client(*where))

    def gib(name, phase, row, column):
        return line(name, lambda step: None if step.cell(phase, row, column) is None else step.cell(phase, row, column) / GIB)

    panels = [
        ("Feeding", "data a second", [client("bulk, accepted", "fed", "long texts in bulk: accepted", "rate"), client("POST, accepted", "posts", "feed /multivac/data: accepted", "rate"), line("learned", lambda step: step.learned_rate)]),
        ("Answering", "ms", [client("answerable, p50", "alone", ALONE, "p50"), client("question, p50", "rest", "questions at rest", "p50"), client("question, p99", "rest", "questions at rest", "p99"), client("p99 under feed", "under", "questions under feed", "p99")]),
        ("Ready", "seconds", [client("fresh replica", "fresh", "a fresh replica", "seconds"), client("kept index", "kept", "a replica with its kept index", "seconds")]),
        ("Memory and disk", "GiB", [gib("api, its own", "memory", "api", 2), gib("index, disk", "disk", "index", 1), gib("MongoDB, disk", "disk", "collections", 1), line("memory of all", lambda step: step.memory / GIB)]),
    ]
    last = steps[-1].count / 1e6
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 520" role="img"><title>How MultiVAC grows</title><style>{STYLE}</style>']
    for order, (title, unit, lines) in enumerate(panels):
        parts += panel(60 + 480 * (order % 2), 40 + 260 * (order // 2), title, unit, [each for each in lines if each[1]], last)
    return "\n".join([*parts, "</svg>"]) + "\n"


def collections(url):
    from pymongo import MongoClient

    with MongoClient(url, serverSelectionTimeoutMS=30_000, socketTimeoutMS=60_000) as client:
        database = client["multivac"]
        stats = [database.command("collStats", name) for name in database.list_collection_names()]
    documents, indexes = (sum(each[name] for each in stats) // 1024 for name in ("storageSize", "totalIndexSize"))
    for name, kib in (("documents", documents), ("indexes", indexes), ("collections", documents + indexes)):
        print(f"disk\t{name}\t{kib}")


def report(directory, docs):
    steps = [Step(path) for path in directory.glob("*.rows") if path.stem.isdecimal()]
    steps = sorted((step for step in steps if step.is_done), key=lambda step: step.count)
    if not steps:
        sys.exit(f"scale-report: no step in {directory} is done")
    embedded = Step(directory / "embedded.rows") if (directory / "embedded.rows").exists() else None
    load = Load(directory / "load.rows") if (directory / "load.rows").exists() else None
    day, cores = max(list(step.rows["done"].values())[-1] for step in steps)
    blocks = {
        "before and now": before_and_now(load),
        "growth": f"{cores} cores, {day}:\n\n{growth(steps)}\n\n![Rates, times, readiness, memory and disk, by millions of data](performance/growth.svg)",
        "a million": per_million(steps, embedded if embedded and embedded.is_done else None),
        "computed": computed(steps),
    }
    page = docs / "performance.md"
    text = page.read_text()
    for name, block in blocks.items():
        text, found = re.subn(f"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", lambda marks: f"{marks[1]}\n{block}\n\n{marks[2]}", text, flags=re.S)
        if found != 1:
            sys.exit(f"scale-report: {page} has no place for {name}")
    page.write_text(text)
    (docs / "performance").mkdir(exist_ok=True)
    (docs / "performance" / "growth.svg").write_text(plot(steps))
    print(f"scale-report: {page} and {docs / 'performance' / 'growth.svg'} are written, of {', '.join(step.name for step in steps)} data", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    if sys.argv[1] == "collections":
        collections(sys.argv[2])
    else:
        report(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
