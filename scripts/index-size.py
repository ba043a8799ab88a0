#!/usr/bin/env python3
"""What an api replica needs for the index of so much text, on the disk and in memory:

    scripts/index-size.py [--datum BYTES] [MIB…]     2048 bytes a datum; 100, 200 and 500 MiB of text unless given

What it does    Feeds text (of words as frequent as in English, in paragraphs of 400 bytes at most) into the embedded
                system, starts it again so that it fills its index anew, and samples meanwhile what its directory for temporary
                files takes and how much memory it has for itself. That directory is a tmpfs, as with docker compose, so files
                that are deleted and still mapped count.
What it needs   Linux, root (for the tmpfs), and multivac-api (MULTIVAC_BUILT_API, or cargo, which builds the release).
What it returns A table, in MiB: the most that the index took, what it takes in the end, the most memory besides, and the
                most of both together, which is what a container with its index in a tmpfs is charged for.
"""
import argparse
import contextlib
import http.client
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
PARAGRAPH = 400


def build():
    if built := os.environ.get("MULTIVAC_BUILT_API"):
        return built
    command = ["cargo", "build", "--release", "--locked", "--workspace", "--bins"]
    command += ["--message-format", "json-render-diagnostics"]
    messages = map(json.loads, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines())
    return next(path for message in messages if (path := message.get("executable")) and path.endswith("multivac-api"))


class Text:
    """Words whose frequency is that of their rank (Zipf), out of 200,000."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        letters = "etaoinshrdlu"
        self.words = ["".join(self.chance.choices(letters, k=2 + min(9, rank // 40))) for rank in range(400)]
        self.words += ["".join(self.chance.choices(letters, k=self.chance.randint(4, 11))) for _ in range(200_000)]
        self.weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(self.words))))

    def datum(self, size):
        paragraphs = []
        for _ in range(max(1, size // PARAGRAPH)):
            words = self.chance.choices(self.words, cum_weights=self.weights, k=66)
            sentences = [" ".join(words[start:start + 11]).capitalize() + "." for start in range(0, 66, 11)]
            paragraphs.append(" ".join(sentences)[:PARAGRAPH])
        return "\n\n".join(paragraphs)[:size]


class System:
    def __init__(self, api, data, temporary):
        flags = ["--listen", "127.0.0.1:0", "--data-dir", data, "--max-queued-bytes", "8GiB", "--log-format", "text"]
        environment = {**os.environ, "TMPDIR": temporary, "RUST_LOG": "warn"}
        self.process = subprocess.Popen([api, *flags], env=environment, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().rsplit("/", 1)[-1].strip()
        self.temporary, self.peak, self.last = temporary, (0, 0, 0), (0, 0)

    def sample(self):
        disk = os.statvfs(self.temporary)
        index = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        with open(f"/proc/{self.process.pid}/status") as status:
            memory = next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024
        most, most_memory, both = self.peak
        self.peak, self.last = (max(most, index), max(most_memory, memory), max(both, index + memory)), (index, memory)

    def get(self, path):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())

    def wait(self, condition):
        while not condition():
            self.sample()
            time.sleep(0.02)
        # Merges go on for a while.
        quiet = time.monotonic() + 6
        while time.monotonic() < quiet:
            self.sample()
            time.sleep(0.02)

    def feed(self, text, datum, size):
        while size > 0:
            lines = [json.dumps({"data": text.datum(datum)}) for _ in range(2048)]
            connection = http.client.HTTPConnection(self.address, timeout=600)
            connection.request("POST", "/multivac/data/bulk", "\n".join(lines), {"Content-Type": "application/x-ndjson"})
            reply = json.loads(connection.getresponse().read())
            assert reply["accepted"] == len(lines), reply
            size -= len(lines) * datum
            self.sample()

    def stop(self):
        self.process.terminate()
        self.process.wait()


def measure(api, mib, datum, directory, temporary):
    data = os.path.join(directory, f"data-{mib}")
    system = System(api, data, temporary)
    try:
        system.feed(Text(mib), datum, mib * MIB)
        system.wait(lambda: (stats := system.get("/multivac/stats"))["learned"] == stats["accepted"])
    finally:
        system.stop()
    fed = (*system.peak, *system.last)
    system = System(api, data, temporary)
    try:
        system.wait(lambda: system.get("/readyz")["ready"])
    finally:
        system.stop()
    return {"fed": fed, "filled at the start": (*system.peak, *system.last)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datum", type=int, default=2048)
    parser.add_argument("sizes", type=int, nargs="*", default=[100, 200, 500])
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("index-size: only root can mount a tmpfs")
    api = build()
    print(f"{'text':>6}  {'':<20}{'index: most':>12}{'in the end':>12}{'memory: most':>14}{'both: most':>12}", flush=True)
    with tempfile.TemporaryDirectory(prefix="multivac-index-size-") as directory:
        temporary = os.path.join(directory, "temporary")
        os.mkdir(temporary)
        subprocess.run(["mount", "-t", "tmpfs", "none", temporary], check=True)
        try:
            for size in arguments.sizes:
                measured = measure(api, size, arguments.datum, directory, temporary)
                for how, (index, memory, both, end, _) in measured.items():
                    figures = f"{index // MIB:>12}{end // MIB:>12}{memory // MIB:>14}{both // MIB:>12}"
                    print(f"{size:>6}  {how:<20}{figures}", flush=True)
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                subprocess.run(["umount", "-l", temporary], check=True)


if __name__ == "__main__":
    main()
