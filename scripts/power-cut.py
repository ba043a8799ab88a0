#!/usr/bin/env python3
"""Cuts the power, and counts what had got a 200 and is not there afterwards:

    scripts/power-cut.py [--cuts N] [--seed N] [--only NAME[,NAME…]]     20 cuts each, and a seed from the clock

What it does    Makes a file system (ext4) in a file and mounts it. On it lie the data of the embedded system, and then those
                of a Redis with each appendfsync: always, everysec, no. Eight clients feed through the real multivac-api; at a
                random moment all processes are killed, and at once, without waiting for what they have under way, the file
                system is shut down as by a power cut (EXT4_IOC_SHUTDOWN without a flush: what was not fsynced, and what the
                kernel had not written by itself, is gone). Then it is mounted again, which replays its journal, everything is
                started again, and each id that got a 200 is looked for, those of earlier cuts too. The SEED decides the
                moments of the cuts.
What it needs   Linux, root, a loop device, mkfs.ext4, redis-server (from the PATH, or MULTIVAC_TEST_REDIS_SERVER) and
                multivac-api (MULTIVAC_BUILT_API, or cargo, which builds it). MongoDB is not needed: feeding does without.
What it returns A table. 0 if nothing was lost with `embedded` and `always`, and with `everysec` nothing that had got its 200
                more than 2 seconds before the cut; `no` promises nothing. 1 otherwise. Where power cannot be cut (no root, no
                loop device), it says SKIPPED, and 0.
"""
import argparse
import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_A_FLUSH = 2
CLIENTS = 8
# Redis may be that late with everysec on a busy disk: it delays its writes while an fsync is under way.
EVERYSEC_BOUND = 2.0
SETTINGS = ["embedded", "always", "everysec", "no"]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def until(what, condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not so after {seconds} s")
        time.sleep(0.02)


def build():
    if built := os.environ.get("MULTIVAC_BUILT_API"):
        return built
    # All programs, as the other scripts build them: cargo would build the dependencies again for one alone.
    command = ["cargo", "build", "--locked", "--workspace", "--bins", "--tests", "--message-format", "json-render-diagnostics"]
    messages = map(json.loads, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines())
    return next(path for message in messages if (path := message.get("executable")) and path.endswith("multivac-api"))


class Disk:
    """A file system that loses its power, in a file."""

    def __init__(self, directory):
        self.image, self.path = os.path.join(directory, "disk"), os.path.join(directory, "mounted")
        os.mkdir(self.path)
        with open(self.image, "wb") as image:
            image.truncate(1 << 30)
        run("mkfs.ext4", "-q", "-F", self.image)
        self.mount()

    def mount(self):
        run("mount", "-o", "loop", self.image, self.path)

    def unmount(self):
        # The kernel may not have let go of the files of a killed process yet.
        until("unmounted", lambda: subprocess.run(["umount", self.path], capture_output=True).returncode == 0)

    def cut(self):
        directory = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, struct.pack("I", WITHOUT_A_FLUSH))
        finally:
            os.close(directory)


class Processes:
    """What runs; all of it ends together."""

    def __init__(self):
        self.running = []

    def start(self, command, environment=None):
        environment = {"PATH": os.environ["PATH"], **(environment or {})}
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # With this script, should that be killed.
        with_parent = lambda: ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG
        process = subprocess.Popen(command, env=environment, preexec_fn=with_parent, **streams)
        self.running.append(process)
        return process

    def signal(self):
        for process in self.running:
            process.kill()

    def kill(self):
        self.signal()
        for process in self.running:
            process.wait()
        self.running.clear()


class Embedded:
    def __init__(self, api, disk):
        self.api, self.data = api, os.path.join(disk.path, "data")

    def start(self, processes, port, elsewhere):
        flags = ["--listen", f"127.0.0.1:{port}", "--data-dir", self.data]
        processes.start([self.api, *flags], {"TMPDIR": elsewhere})

    def present(self, port, ids):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        there = set()
        for datum in ids:
            connection.request("GET", f"/multivac/data/{datum}")
            reply = connection.getresponse()
            reply.read()
            if reply.status == 200:
                there.add(datum)
        return there


class Redis:
    def __init__(self, api, disk, appendfsync):
        self.api, self.data, self.appendfsync = api, os.path.join(disk.path, "redis"), appendfsync
        self.binary = os.environ.get("MULTIVAC_TEST_REDIS_SERVER") or shutil.which("redis-server")
        os.makedirs(self.data, exist_ok=True)

    def start(self, processes, port, elsewhere):
        self.port = free_port()
        settings = ["--appendonly", "yes", "--appendfsync", self.appendfsync, "--save", "", "--bind", "127.0.0.1"]
        server = processes.start([self.binary, "--port", str(self.port), "--dir", self.data, *settings])

        def answers():
            if server.poll() is not None:
                raise RuntimeError(f"redis-server ended with status {server.returncode}; its files are in {self.data}")
            with contextlib.suppress(OSError):
                return self.command("PING") == b"PONG"

        until("Redis answers", answers)
        servers = {"REDIS_URL": f"redis://127.0.0.1:{self.port}", "MONGO_URL": "mongodb://127.0.0.1:1/?replicaSet=rs0"}
        processes.start([self.api, "--listen", f"127.0.0.1:{port}"], {"TMPDIR": elsewhere, **servers})

    def command(self, *words):
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in map(str.encode, words))
            connection.sendall(b"*%d\r\n%s" % (len(words), parts))
            return self.reply(connection.makefile("rb"))

    def reply(self, stream):
        kind, rest = (line := stream.readline())[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
        return [self.reply(stream) for _ in range(int(rest))] if kind == b"*" else rest

    def present(self, _port, _ids):
        # Nothing learns here, so all of it is on the stream.
        return {job[1].decode() for job in (entry[1] for entry in self.command("XRANGE", "multivac:{0}:stream", "-", "+"))}


def feed(port, client, ends, got):
    """Feeds until the connection breaks after the cut; notes each id that got a 200, and when."""
    connection, number = None, 0
    while not ends.is_set():
        number += 1
        try:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            text = f"Star {number} of client {client} went out at {time.time()}. " + "Nobody saw it. " * (number % 40)
            connection.request("POST", "/multivac/data", urllib.parse.urlencode({"data": text}), FORM)
            reply = connection.getresponse()
            body = reply.read()
            if reply.status == 200:
                got.append((json.loads(body)["id"], time.monotonic()))
        except (OSError, http.client.HTTPException, ValueError):
            connection = None
            time.sleep(0.005)


def listens(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True


def cut_again_and_again(name, api, cuts, chance, elsewhere):
    """The line of the table: how many got a 200, how many of those were lost, and how long before the cut they got it."""
    with tempfile.TemporaryDirectory(prefix="multivac-power-cut-") as directory:
        disk, processes = Disk(directory), Processes()
        backend = Embedded(api, disk) if name == "embedded" else Redis(api, disk, name)
        accepted, lost, oldest, held = 0, 0, 0.0, set()
        try:
            for _ in range(cuts):
                port, got, ends = free_port(), [], threading.Event()
                backend.start(processes, port, elsewhere)
                until("the api listens", lambda: listens(port))
                clients = [threading.Thread(target=feed, args=(port, n, ends, got), daemon=True) for n in range(CLIENTS)]
                for client in clients:
                    client.start()
                until("data are accepted", lambda: got)
                time.sleep(chance.uniform(0.05, 2.5))
                # First nothing runs any more, or an fsync that overlaps with the cut could be taken for one that succeeded.
                processes.signal()
                disk.cut()
                cut_at = time.monotonic()
                processes.kill()
                ends.set()
                for client in clients:
                    client.join()
                disk.unmount()
                disk.mount()
                port = free_port()
                backend.start(processes, port, elsewhere)
                until("the api listens", lambda: listens(port))
                when = dict(got)
                there = backend.present(port, held | when.keys())
                gone = (held | when.keys()) - there
                accepted, lost = accepted + len(when), lost + len(gone)
                oldest = max([oldest, *(cut_at - when.get(datum, 0) for datum in gone)])
                held = (held | when.keys()) & there
                processes.kill()
        finally:
            processes.kill()
            with contextlib.suppress(RuntimeError):
                disk.unmount()
    return accepted, lost, oldest


def reason_to_skip(names):
    if os.geteuid() != 0:
        return "only root can mount a file system"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices"
    if not shutil.which("mkfs.ext4"):
        return "mkfs.ext4 is missing"
    if names != ["embedded"] and not (os.environ.get("MULTIVAC_TEST_REDIS_SERVER") or shutil.which("redis-server")):
        return "redis-server is missing"
    with tempfile.TemporaryDirectory(prefix="multivac-power-cut-") as directory:
        try:
            Disk(directory).unmount()
        except (subprocess.CalledProcessError, OSError) as error:
            return f"a file system in a file cannot be mounted: {getattr(error, 'stderr', None) or error}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default=",".join(SETTINGS))
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := set(names) - set(SETTINGS):
        parser.error(f"--only: expected {', '.join(SETTINGS)}, not {', '.join(unknown)}")
    if reason := reason_to_skip(names):
        print(f"power-cut: SKIPPED: {reason.strip()}")
        return 0
    api, broken = build(), []
    print(f"seed {arguments.seed}\n{'':<10}{'cuts':>6}{'got a 200':>11}{'lost':>7}  the oldest lost, before the cut", flush=True)
    with tempfile.TemporaryDirectory(prefix="multivac-power-cut-") as elsewhere:
        for name in names:
            chance = random.Random(f"{arguments.seed} {name}")
            accepted, lost, oldest = cut_again_and_again(name, api, arguments.cuts, chance, elsewhere)
            age = f"{oldest:.2f} s" if lost else "-"
            print(f"{name:<10}{arguments.cuts:>6}{accepted:>11}{lost:>7}  {age}", flush=True)
            if name in ("embedded", "always") and lost or name == "everysec" and oldest > EVERYSEC_BOUND:
                broken.append(name)
    print(f"power-cut: {len(names) - len(broken)} rules hold, {len(broken)} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
