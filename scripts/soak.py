"""Runs the test that scripts/soak.sh sets up and describes."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

MAX_QUEUED, MAX_QUEUED_BYTES = 20_000, 32 << 20
TEXT_BYTES = 4_096
FEEDERS = 4
SAMPLE_SECONDS = 5
# docs/redis.md: the text and a quarter, and 300 bytes for each datum. 16 MiB more for Redis itself and its buffers.
REDIS_BOUND = MAX_QUEUED_BYTES * 5 // 4 + MAX_QUEUED * 300 + (16 << 20)
# A batch has at most 8 MiB of text, of which there are a few copies while it is processed.
WORKER_BOUND = 160 << 20

WORDS = [f"{a}{b}" for a in ("star", "light", "dust", "heat", "void", "wave", "core", "time")
         for b in ("", "s", "less", "ward", "born", "fall", "fold", "line")]


def text(rng, number):
    words = [f"Datum {number}:"]
    size = 0
    while size < TEXT_BYTES:
        word = rng.choice(WORDS)
        words.append(word + ("." if rng.random() < 0.1 else ""))
        size += len(word) + 1
    return " ".join(words)


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % probe.getsockname()[1]


def get(address, path):
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path)
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


def memory(pid):
    """The resident memory of a process, and how much of it is not mapped files, in bytes."""
    held = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(("VmRSS", "RssAnon")):
            held[line.split(":")[0]] = int(line.split()[1]) * 1024
    return held["VmRSS"], held["RssAnon"]


def redis_memory(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"INFO memory\r\n")
        said = b""
        while b"mem_allocator" not in said:
            said += connection.recv(65536)
    return int(next(line for line in said.decode().splitlines() if line.startswith("used_memory:")).split(":")[1])


class Soak:
    def __init__(self, minutes, directory):
        self.minutes, self.directory = minutes, Path(directory)
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.rate = 200.0  # offered each second, by all feeders together
        self.accepted = self.refused = 0
        self.retry_after = []
        self.failures = []
        self.processes = []
        self.api_address, self.worker_address = free_address(), free_address()

    def start(self, name, command):
        log = open(self.directory / f"{name}.log", "wb")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def feed(self, seed):
        rng, number = random.Random(seed), 0
        connection = http.client.HTTPConnection(self.api_address, timeout=30)
        due = time.monotonic()
        while not self.stop.is_set():
            due = max(due + FEEDERS / self.rate, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))
            number += 1
            try:
                connection.request("POST", "/multivac/data", text(rng, f"{seed}-{number}"), {"Content-Type": "text/plain"})
                reply = connection.getresponse()
                body = reply.read()
            except OSError as error:
                with self.lock:
                    self.failures.append(repr(error))
                connection.close()
                continue
            with self.lock:
                if reply.status == 200:
                    self.accepted += 1
                elif reply.status == 503 and 1 <= int(reply.headers.get("Retry-After", "0")) <= 60:
                    self.refused += 1
                    self.retry_after.append(int(reply.headers["Retry-After"]))
                else:
                    self.failures.append(f"{reply.status} {body[:200]!r}")

    def hold_worker(self, worker):
        """Lets the worker run for a tenth of each second."""
        while not self.stop.is_set():
            worker.send_signal(signal.SIGCONT)
            time.sleep(0.1)
            worker.send_signal(signal.SIGSTOP)
            time.sleep(0.9)
        worker.send_signal(signal.SIGCONT)

    def sample(self, started, api, worker, redis_port):
        metrics = {}
        for line in get(self.api_address, "/metrics")[1].splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                metrics[name] = float(value)
        stats = json.loads(get(self.api_address, "/multivac/stats")[1])
        stand = ("queued", "processing", "learned", "retracted", "dead")
        if stats["accepted"] != sum(stats[name] for name in stand):
            self.failures.append(f"the ledger does not balance: {stats}")
        drained = metrics.get("multivac_queue_drained_per_second", 0.0)
        # Twice the drain rate; at least 50 a second, while the rate is not known yet or is zero.
        self.rate = max(2 * drained, 50.0)
        with self.lock:
            accepted, refused, told = self.accepted, self.refused, self.retry_after[-200:]
        api_rss, api_anon = memory(api.pid)
        worker_rss, _ = memory(worker.pid)
        return {
            "seconds": round(time.monotonic() - started),
            "offered_per_second": round(self.rate),
            "drained_per_second": round(drained),
            "accepted": accepted,
            "refused": refused,
            "retry_after": round(sum(told) / len(told)) if told else 0,
            "queued": stats["queued"] + stats["processing"],
            "queued_bytes": round(metrics.get("multivac_queue_bytes", 0)),
            "learned": stats["learned"],
            "redis_bytes": redis_memory(redis_port),
            "api_bytes": api_rss,
            "api_own_bytes": api_anon,
            "worker_bytes": worker_rss,
        }

    def run(self):
        redis_url, mongo_url = os.environ["MULTIVAC_TEST_REDIS_URL"], os.environ["MULTIVAC_TEST_MONGO_URL"]
        servers = ["--redis-url", redis_url, "--mongo-url", mongo_url]
        api = self.start("api", [os.environ["MULTIVAC_BUILT_API"], "--listen", self.api_address, "--max-queued",
                                 str(MAX_QUEUED), "--max-queued-bytes", str(MAX_QUEUED_BYTES), *servers])
        worker = self.start("worker", [os.environ["MULTIVAC_BUILT_WORKER"], "--health-listen", self.worker_address,
                                       "--concurrency", "1", *servers])
        for address in (self.api_address, self.worker_address):
            wait_ready(address)
        started = time.monotonic()
        threads = [threading.Thread(target=self.feed, args=(seed,), daemon=True) for seed in range(FEEDERS)]
        threads.append(threading.Thread(target=self.hold_worker, args=(worker,), daemon=True))
        for thread in threads:
            thread.start()
        samples, port = [], int(redis_url.rsplit(":", 1)[1].split("/")[0])
        print_row({name: name for name in COLUMNS})
        while time.monotonic() - started < self.minutes * 60:
            time.sleep(SAMPLE_SECONDS)
            samples.append(self.sample(started, api, worker, port))
            if len(samples) % (60 // SAMPLE_SECONDS) == 0:
                print_row(samples[-1])
        self.stop.set()
        for thread in threads:
            thread.join()
        self.report(samples)

    def report(self, samples):
        with open(self.directory / "soak.csv", "w") as csv:
            print(",".join(samples[0]), file=csv)
            for sample in samples:
                print(",".join(map(str, sample.values())), file=csv)
        (self.directory / "soak.svg").write_text(chart(samples))
        bounds = {"redis_bytes": REDIS_BOUND, "worker_bytes": WORKER_BOUND, "queued": MAX_QUEUED,
                  "queued_bytes": MAX_QUEUED_BYTES}
        for name, bound in bounds.items():
            most = max(sample[name] for sample in samples)
            print(f"{name}: at most {most:,} (bound {bound:,})")
            if most > bound:
                self.failures.append(f"{name} went over its bound")
        # The api's index grows with the data learned, not with those offered. The second half shows by how much for each datum.
        half, last = samples[len(samples) // 2], samples[-1]
        grown, learned = last["api_own_bytes"] - half["api_own_bytes"], last["learned"] - half["learned"]
        print(f"api: {grown / max(learned, 1):,.0f} bytes more a datum learned, in the second half")
        if not self.refused:
            self.failures.append("nothing was refused: the load was too small to tell anything")
        for failure in self.failures[:10]:
            print(f"FAILED: {failure}")


COLUMNS = ("seconds", "offered_per_second", "drained_per_second", "refused", "retry_after", "queued", "queued_bytes",
           "learned", "redis_bytes", "api_bytes", "api_own_bytes", "worker_bytes")


def print_row(row):
    print("  ".join(f"{row[name]:>{max(len(name), 9)}}" for name in COLUMNS), flush=True)


def wait_ready(address):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if get(address, "/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"{address} is not ready within a minute")


def chart(samples):
    """Sizes over time, in MiB, as SVG."""
    series = {"redis_bytes": "#c0392b", "queued_bytes": "#e67e22", "worker_bytes": "#27ae60", "api_bytes": "#2980b9",
              "api_own_bytes": "#8e44ad"}
    width, height, left, bottom = 900, 420, 60, 40
    most = max(max(sample[name] for name in series) for sample in samples) / (1 << 20)
    last = samples[-1]["seconds"]
    x = lambda seconds: left + seconds / last * (width - left - 150)
    y = lambda mib: height - bottom - mib / most * (height - bottom - 20)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>']
    for step in range(5):
        mib = most * step / 4
        parts.append(f'<line x1="{left}" x2="{width - 150}" y1="{y(mib):.1f}" y2="{y(mib):.1f}" stroke="#ddd"/>'
                     f'<text x="{left - 6}" y="{y(mib) + 4:.1f}" text-anchor="end">{mib:.0f}</text>')
        parts.append(f'<text x="{x(last * step / 4):.1f}" y="{height - 20}" text-anchor="middle">{last * step / 240:.1f}</text>')
    for place, (name, colour) in enumerate(series.items()):
        points = " ".join(f"{x(s['seconds']):.1f},{y(s[name] / (1 << 20)):.1f}" for s in samples)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
                     f'<text x="{width - 140}" y="{40 + 18 * place}" fill="{colour}">{name.replace("_bytes", "")}</text>')
    parts.append(f'<text x="{left}" y="14">MiB</text><text x="{width - 150}" y="{height - 5}" text-anchor="end">minutes</text></svg>')
    return "\n".join(parts)


def main():
    soak = Soak(float(sys.argv[1]), sys.argv[2])
    try:
        soak.run()
    finally:
        soak.stop.set()
        for process in soak.processes:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in soak.processes:
            try:
                process.wait(35)
            except subprocess.TimeoutExpired:
                process.kill()
    sys.exit(1 if soak.failures else 0)


main()
