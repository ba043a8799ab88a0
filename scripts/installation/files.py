"""The files of secrets/ and .env: each is for its owner alone, and is written whole or not at all, by one run at a time."""

import contextlib
import fcntl
import os
import pathlib
import re
import stat
import sys
import time

LOCK_SECONDS = 60
UNFINISHED = ".unfinished"

DIRECTORY = pathlib.Path(os.environ.get("MULTIVAC_SECRETS") or "secrets")
ENV_FILE = pathlib.Path(os.environ.get("MULTIVAC_ENV_FILE") or ".env")


class Failure(Exception):
    """Why it cannot be done, in a sentence."""


def say(text):
    print("setup:", text, file=sys.stderr)


@contextlib.contextmanager
def alone():
    """One run at a time. The lock ends with the process that holds it, however that ends."""
    DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(path(".lock"), os.O_RDWR | os.O_CREAT, 0o600)) as lock:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Failure(f"another run has {path('.lock')} locked") from None
                time.sleep(0.02)
        yield


def tidy():
    """Directories; modes and owners as they should be; what a run that was killed has left half-written."""
    for directory in [DIRECTORY, *(path(name) for name in ("edge", "app", "redis", "mongo", "grafana", "alertmanager", "kubernetes"))]:
        directory.mkdir(mode=0o700, exist_ok=True)
        for entry in [directory, *directory.iterdir()]:
            if entry.suffix == UNFINISHED:
                entry.unlink()
            elif not entry.is_symlink():
                if stat.S_IMODE(entry.stat().st_mode) & 0o077:
                    entry.chmod(0o700 if entry.is_dir() else 0o600)
                if os.getuid() == 0 and directory != DIRECTORY:
                    os.chown(entry, *owner())


def path(name):
    return DIRECTORY / name


def is_there(name):
    return path(name).is_file() and path(name).stat().st_size > 0


def read(name):
    try:
        return path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Failure(f"{path(name)} is not text") from None


def owner():
    """The user that the containers run as. No container runs as root, so root's files would be unreadable to all of them;
    the owner is chosen at the first run, which another user may have done."""
    if os.getuid() != 0:
        return os.getuid(), os.getgid()
    user = env_setting() or "65532:65532"
    return tuple(map(int, user.split(":")))


def put(name, text, is_for_containers=True):
    write_whole(path(name), text, 0o600, owner() if is_for_containers else None)



def write_whole(target, text, mode, belongs_to=None):
    target = pathlib.Path(os.path.realpath(target))
    new = target.with_name(f".{target.name}{UNFINISHED}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8", errors="surrogateescape") as file:
        if belongs_to and os.getuid() == 0:
            os.fchown(file.fileno(), *belongs_to)
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, target)
    flush_directory(target.parent)


def remove(name):
    path(name).unlink(missing_ok=True)
    flush_directory(path(name).parent)


def flush_directory(directory):
    """Without it a power cut may undo a rename."""
    descriptor = os.open(directory, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def env_setting():
    text = ENV_FILE.read_text(encoding="utf-8", errors="surrogateescape") if ENV_FILE.is_file() else ""
    found = re.findall(r"^MULTIVAC_USER=(.*)$", text, re.MULTILINE)
    if found and not re.fullmatch(r"\d+:\d+", found[-1]):
        raise Failure(f"{ENV_FILE}: MULTIVAC_USER: expected two numbers with a colon between them, UID:GID")
    return found[-1] if found else None


def make_env():
    if env_setting():
        return []
    text = ENV_FILE.read_text(encoding="utf-8", errors="surrogateescape") if ENV_FILE.is_file() else ""
    before = ENV_FILE.stat() if ENV_FILE.is_file() else None
    mode, belongs_to = (stat.S_IMODE(before.st_mode), (before.st_uid, before.st_gid)) if before else (0o600, None)
    # If the last line has no end, the new one would be appended to it.
    text += "\n" if text and not text.endswith("\n") else ""
    text += "# The user that the containers run as: the owner of secrets/.\nMULTIVAC_USER=%d:%d\n" % owner()
    write_whole(ENV_FILE, text, mode, belongs_to)
    return [str(ENV_FILE)]
