"""The users who may change data: htpasswd, and curlrc for one of them."""

import base64
import getpass
import hashlib
import hmac
import os
import re
import secrets
import sys

from installation.certificate import openssl
from installation.files import DIRECTORY, Failure, flush_directory, is_there, path, put, read, remove, say

MIN_PASSWORD, MAX_PASSWORD = 12, 256  # in characters; in bytes, for openssl's crypt(3)


def new_password():
    return secrets.token_hex(24)


def fast_hash_of(password, salt=None):
    """For a password of 192 random bits, which needs no slow hash: a slow one would tell by the time of a 401 that the name
    exists."""
    salt = salt or secrets.token_bytes(16)
    return "{SSHA}" + base64.b64encode(hashlib.sha1(password.encode() + salt).digest() + salt).decode()


def slow_hash_of(password, salt=None):
    """For a password that a person chose. A thousand rounds, the minimum: nginx computes the hash at every request."""
    salt = salt or "rounds=1000$" + secrets.token_hex(8)
    return openssl("passwd", "-6", "-salt", salt, "-stdin", given=password + "\n").strip()


def is_hash_of(hashed, password):
    if hashed.startswith("{SSHA}"):
        return hmac.compare_digest(fast_hash_of(password, base64.b64decode(hashed[6:])[20:]), hashed)
    kind, _, rest = hashed[1:].partition("$")
    return kind == "6" and hmac.compare_digest(slow_hash_of(password, rest.rpartition("$")[0]), hashed)


# The forms that nginx takes.
HASH = re.compile(r"\$(1|5|6|apr1|2[aby]|y)\$\S+|\{(SSHA|SHA|PLAIN)\}\S.*|[./0-9A-Za-z]{13}")


def users():
    """Each line of htpasswd as (name, hash, line); names are None in comments."""
    found = []
    for number, line in enumerate(read("edge/htpasswd").splitlines() if is_there("edge/htpasswd") else [], 1):
        name, _, hashed = line.partition(":")
        if not line.strip() or line.startswith("#"):
            found.append((None, "", line))
        elif name and HASH.fullmatch(hashed.partition(":")[0]):
            found.append((name, hashed.partition(":")[0], line))
        else:
            raise Failure(f"{path('edge/htpasswd')}, line {number}: expected NAME:HASH, with a hash that nginx knows")
    return found


def check():
    if not any(name for name, _, _ in users()):
        raise Failure(f"{path('edge/htpasswd')} names no user; without any the edge does not start")


def curlrc(name, password):
    quoted = re.sub(r'(["\\])', r"\\\1", f"{name}:{password}")
    return f'user = "{quoted}"\ncacert = "{DIRECTORY}/edge/tls.crt"\n'


def user_of(file):
    """The name and the password in curlrc; empty if it has none."""
    found = re.search(r'^user = "((?:[^"\\]|\\.)*)"$', read(file), re.MULTILINE) if is_there(file) else None
    name, _, password = re.sub(r"\\(.)", r"\1", found[1] if found else "").partition(":")
    return name, password


def enter(name, password, is_typed=False):
    """Adds the user, or changes the password; valid from the next request on.

    Where curlrc is this user's, or there are no users yet, the new one lies beside it until htpasswd has its password:
    `finish_entering` tells from that whether it is to take its place.
    """
    has_curlrc = user_of("curlrc")[0] == name if is_there("curlrc") else not is_there("edge/htpasswd")
    if has_curlrc:
        put("curlrc.next", curlrc(name, password), is_for_containers=False)
    others = [line for other, _, line in users() if other != name]
    hashed = slow_hash_of(password) if is_typed else fast_hash_of(password)
    put("edge/htpasswd", "\n".join([*others, f"{name}:{hashed}"]) + "\n")
    finish_entering()


def finish_entering():
    if not path("curlrc.next").exists():
        return
    name, password = user_of("curlrc.next")
    if any(other == name and is_hash_of(hashed, password) for other, hashed, _ in users()):
        os.rename(path("curlrc.next"), path("curlrc"))
        flush_directory(DIRECTORY)
    else:
        remove("curlrc.next")


def add_user(name, typed):
    password = typed or new_password()
    enter(name, password, bool(typed))
    if typed:
        say(f"{name} may change data")
    else:
        say(f"{name} may change data, with this password, which is not kept anywhere:")
        print(password, flush=True)


def type_password(name):
    def ask(prompt):
        if sys.stdin.isatty():
            return getpass.getpass(prompt)
        line = sys.stdin.readline()
        if not line:
            raise Failure("no password was given")
        return line.rstrip("\n")

    password = ask(f"Password for {name}: ")
    if len(password) < MIN_PASSWORD or len(password.encode()) > MAX_PASSWORD or not password.isprintable():
        raise Failure(f"a password has at least {MIN_PASSWORD} characters, at most {MAX_PASSWORD} bytes, and nothing unprintable")
    if ask("Again: ") != password:
        raise Failure("the two are not the same")
    return password


def remove_user(name):
    others = [line for other, _, line in users() if other != name]
    if len(others) == len(users()):
        raise Failure(f"there is no user {name}")
    if not any(other and other != name for other, _, _ in users()):
        raise Failure(f"{name} is the only user; without any the edge does not start")
    put("edge/htpasswd", "\n".join(others) + "\n")
    say(f"{name} may no longer change data")
    if user_of("curlrc")[0] == name:
        remove("curlrc")
        say(f"removed {path('curlrc')}, which had the password of {name}")
