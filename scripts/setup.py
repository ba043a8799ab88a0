#!/usr/bin/env python3
"""Makes what the full system needs before its first start: a certificate, passwords, and the first user.

    scripts/setup.py                      makes what is missing; run again, it changes nothing
    scripts/setup.py --name NAME          the same, with a certificate for this name or address too (may be repeated)
    scripts/setup.py --user NAME          adds a user who may feed and retract, or changes the password, and prints it once
    scripts/setup.py --user NAME --ask    the same, with a password that you type
    scripts/setup.py --remove-user NAME   removes a user
    scripts/setup.py --rotate WHAT        new passwords of redis or mongo, a new keyfile or certificate; prints what to restart
    scripts/setup.py --check              changes nothing, and says what is missing, broken or about to expire

What it makes   secrets/ (never committed, mode 700, each file 600), and .env, which tells docker compose the user that
                the containers run as: you, so that they can read the files; the user 65532 if you are root.
                  edge/   tls.crt, tls.key     a self-signed certificate; replace it by your own
                          htpasswd             the users who may change data, with the hashes of their passwords
                  app/    redis_url, mongo_url what the api and the workers connect with
                  redis/  redis.conf           its password
                  mongo/  keyfile, root_password, app_password (and the previous root passwords, which changing it needs)
                  curlrc  for `curl -K secrets/curlrc …`: the first user's name and password, and the certificate
What it needs   python3 (3.9 or newer) and openssl.
Elsewhere       MULTIVAC_SECRETS names another directory, MULTIVAC_ENV_FILE another file.
What it returns 0 if everything is there and valid; 2 and the reason if not; --check: 1 if something needs to be done soon.

Runs at the same time wait for each other. Each file is written whole or not at all, and in such an order that the next
run completes what one that was killed had begun.
"""

import argparse
import contextlib
import datetime
import fcntl
import getpass
import hmac
import ipaddress
import os
import pathlib
import re
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIRST_USER = "multivac"
VALID_DAYS, WARN_DAYS = 825, 30
LOCK_SECONDS = 60
MIN_PASSWORD, MAX_PASSWORD = 12, 256  # in characters; in bytes, for openssl's crypt(3)

options = argparse.Namespace(name=[])
DIRECTORY = pathlib.Path(os.environ.get("MULTIVAC_SECRETS") or "secrets")
ENV_FILE = pathlib.Path(os.environ.get("MULTIVAC_ENV_FILE") or ".env")


class Failure(Exception):
    """Why it cannot be done, in a sentence."""


def say(text):
    print("setup:", text, file=sys.stderr)


def openssl(*arguments, given=""):
    """What openssl prints; a Failure with its last line if it fails."""
    done = subprocess.run(["openssl", *arguments], input=given.encode(), capture_output=True)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
        raise Failure(f"openssl {arguments[0]}: {said[-1]}")
    return done.stdout.decode()


def new_password():
    return secrets.token_hex(24)


# --- files: each is for its owner alone, and is written whole or not at all --------------------------------------


def path(name):
    return DIRECTORY / name


def is_there(name):
    return path(name).is_file() and path(name).stat().st_size > 0


def read(name):
    try:
        return path(name).read_text()
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


UNFINISHED = ".unfinished"


def write_whole(target, text, mode, belongs_to=None):
    target = pathlib.Path(os.path.realpath(target))
    new = target.with_name(f".{target.name}{UNFINISHED}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
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


# --- what there is -------------------------------------------------------------------------------------------------


class Secret:
    """A file: how it is made, how it is checked, and which other one it is made from.

    What is made from another is removed before the other is replaced. So whatever was interrupted, a file that is there
    fits the one that it was made from, and one that is missing can be made.
    """

    def __init__(self, name, make, check, made_from=None, what=None):
        self.name, self.make, self.check, self.made_from, self.what = name, make, check, made_from, what


def like(pattern, expected):
    """A check: the file's text, without what surrounds it, is like this."""

    def check(name):
        if not re.fullmatch(pattern, read(name).strip(), re.DOTALL):
            raise Failure(f"{path(name)} is not {expected}")

    return check


def redis_password():
    found = re.search(r"^requirepass (\S+)$", read("redis/redis.conf"), re.MULTILINE)
    if not found:
        raise Failure(f"{path('redis/redis.conf')} has no line `requirepass PASSWORD`")
    return found[1]


def certificate_key():
    return openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def certificate():
    """Self-signed, and good for nothing but being this server: a CA's could vouch for every name to those who trust it."""
    names = dict.fromkeys(["localhost", "127.0.0.1", "::1", *machine_name(), *options.name])
    alternatives = ",".join(("IP:" if is_address(name) else "DNS:") + name for name in names)
    settings = f"""
        [req]
        prompt = no
        distinguished_name = subject
        x509_extensions = leaf
        [subject]
        CN = MultiVAC
        [leaf]
        basicConstraints = critical,CA:FALSE
        keyUsage = critical,digitalSignature
        extendedKeyUsage = serverAuth
        subjectKeyIdentifier = hash
        subjectAltName = {alternatives}
        """
    made = ["-x509", "-new", "-sha256", "-days", str(VALID_DAYS), "-key", str(path("edge/tls.key"))]
    return openssl("req", "-config", "/dev/stdin", *made, given=settings)


def machine_name():
    name = socket.gethostname()
    return [name] if is_host_name(name) else []


def is_address(name):
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        return False


def is_host_name(name):
    return len(name) <= 253 and re.fullmatch(r"(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.|$))+", name + ".") is not None


def check_key(name):
    try:
        # No password: nginx could not ask for one.
        openssl("pkey", "-in", str(path(name)), "-passin", "pass:", "-noout")
        if "-----BEGIN" not in read(name):
            raise Failure("it is in DER")
    except Failure:
        raise Failure(f"{path(name)} is not a private key without a password, in PEM") from None


def check_certificate(name):
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", read(name), re.DOTALL)
    try:
        keys = [openssl("x509", "-noout", "-pubkey", given=block) for block in blocks]
        key = openssl("pkey", "-in", str(path("edge/tls.key")), "-passin", "pass:", "-pubout")
    except Failure:
        keys = []
    if not keys or read(name).count("-----BEGIN CERTIFICATE-----") != len(keys):
        raise Failure(f"{path(name)} is not a certificate (with its chain, if it has one) in PEM")
    if keys[0] != key:
        raise Failure(f"{path(name)} and {path('edge/tls.key')} do not fit: the first certificate is for another key")
    begins, ends = validity(name)
    if begins > now() or ends < now():
        raise Failure(f"{path(name)} is valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}; {OWN_OR_NEW}")
    for host in options.name:
        kind = "-checkip" if is_address(host) else "-checkhost"
        if "does match" not in openssl("x509", "-in", str(path(name)), "-noout", kind, host):
            raise Failure(f"{path(name)} is not for {host}; {OWN_OR_NEW}")


OWN_OR_NEW = "replace it by your own, or run scripts/setup.py --rotate certificate"


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def validity(name):
    dates = openssl("x509", "-in", str(path(name)), "-noout", "-dates")
    found = re.findall(r"^not(?:Before|After)=(.*) GMT$", dates, re.MULTILINE)
    months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    for text in found:
        month, day, clock, year = text.split()
        yield datetime.datetime.fromisoformat(f"{year}-{months.index(month) + 1:02}-{int(day):02}T{clock}+00:00")


def certificate_warnings():
    """What should be done about the certificate, but not at once."""
    ends = list(validity("edge/tls.crt"))[1]
    if ends - now() < datetime.timedelta(days=WARN_DAYS):
        yield f"{path('edge/tls.crt')} expires in {(ends - now()).days} days, on {ends:%Y-%m-%d}; {OWN_OR_NEW}"
    if "CA:TRUE" in openssl("x509", "-in", str(path("edge/tls.crt")), "-noout", "-ext", "basicConstraints"):
        yield f"{path('edge/tls.crt')} is that of a CA, which can vouch for every name to those who trust it; {OWN_OR_NEW}"


# In the order in which they are made. htpasswd and curlrc are further down, since users come and go.
SECRETS = [
    Secret("edge/tls.key", certificate_key, check_key, what="a self-signed certificate for localhost (edge/tls.crt)"),
    Secret("edge/tls.crt", certificate, check_certificate, "edge/tls.key"),
    Secret("redis/redis.conf", lambda: f"requirepass {new_password()}\n", lambda name: redis_password(), what="a password for Redis"),
    Secret("app/redis_url", lambda: f"redis://:{redis_password()}@redis:6379\n", like(r"rediss?://\S+", "a URL of Redis"), "redis/redis.conf"),
    Secret("mongo/app_password", new_password, like(".+", "a password"), what="a password for MongoDB"),
    Secret(
        "app/mongo_url",
        lambda: f"mongodb://multivac:{read('mongo/app_password').strip()}@mongo:27017/multivac?replicaSet=rs0\n",
        like(r"mongodb(\+srv)?://\S+", "a URL of MongoDB"),
        "mongo/app_password",
    ),
    Secret("mongo/root_password", new_password, like(".+", "a password"), what="a password for MongoDB's administrator"),
    Secret("mongo/keyfile", lambda: openssl("rand", "-base64", "384"), like(r"[A-Za-z0-9+/=\s]{6,1100}", "a keyfile of MongoDB"), what="a key for MongoDB's replica set"),
]


def make_missing():
    """Makes what is missing; returns the words for it."""
    made = {}
    for secret in SECRETS:
        if is_there(secret.name):
            continue
        for other in SECRETS:
            # No run of this program leaves it so: somebody put it there.
            if other.made_from == secret.name and is_there(other.name):
                reason = f"{path(other.name)} is there without {path(secret.name)}, which it belongs to"
                raise Failure(f"{reason}; put that one there too, or remove this one and a new pair is made")
        put(secret.name, secret.make())
        made[secret.name] = secret.what or secret.name
    # A pair is one thing.
    return [made[secret.name] for secret in SECRETS if secret.name in made and secret.made_from not in made]


def replace(name):
    """A new one in place of an old one; `make_missing` then makes what is made from it."""
    secret = next(secret for secret in SECRETS if secret.name == name)
    for other in SECRETS:
        if other.made_from == name:
            remove(other.name)
    put(name, secret.make())


# --- users who may change data: htpasswd, and curlrc for one of them -----------------------------------------------


def hash_of(password, salt=None):
    """A thousand rounds, the minimum: nginx computes the hash at every request, and a password of 192 random bits needs no
    more."""
    salt = salt or "rounds=1000$" + secrets.token_hex(8)
    return openssl("passwd", "-6", "-salt", salt, "-stdin", given=password + "\n").strip()


def is_hash_of(hashed, password):
    kind, _, rest = hashed[1:].partition("$")
    return kind == "6" and hmac.compare_digest(hash_of(password, rest.rpartition("$")[0]), hashed)


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


def check_users():
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


def enter(name, password):
    """Adds the user, or changes the password; valid from the next request on.

    Where curlrc is this user's, or there are no users yet, the new one lies beside it until htpasswd has its password:
    `finish_entering` tells from that whether it is to take its place.
    """
    has_curlrc = user_of("curlrc")[0] == name if is_there("curlrc") else not is_there("edge/htpasswd")
    if has_curlrc:
        put("curlrc.next", curlrc(name, password), is_for_containers=False)
    others = [line for other, _, line in users() if other != name]
    put("edge/htpasswd", "\n".join([*others, f"{name}:{hash_of(password)}"]) + "\n")
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
    enter(name, password)
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


# --- .env ------------------------------------------------------------------------------------------------------------


def env_setting():
    text = ENV_FILE.read_text() if ENV_FILE.is_file() else ""
    found = re.findall(r"^MULTIVAC_USER=(.*)$", text, re.MULTILINE)
    if found and not re.fullmatch(r"\d+:\d+", found[-1]):
        raise Failure(f"{ENV_FILE}: MULTIVAC_USER: expected two numbers with a colon between them, UID:GID")
    return found[-1] if found else None


def make_env():
    if env_setting():
        return []
    text = ENV_FILE.read_text() if ENV_FILE.is_file() else ""
    before = ENV_FILE.stat() if ENV_FILE.is_file() else None
    mode, belongs_to = (stat.S_IMODE(before.st_mode), (before.st_uid, before.st_gid)) if before else (0o600, None)
    # If the last line has no end, the new one would be appended to it.
    text += "\n" if text and not text.endswith("\n") else ""
    text += "# The user that the containers run as: the owner of secrets/.\nMULTIVAC_USER=%d:%d\n" % owner()
    write_whole(ENV_FILE, text, mode, belongs_to)
    return [str(ENV_FILE)]


# --- from start to end ------------------------------------------------------------------------------------------------


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
    for directory in [DIRECTORY, *(path(name) for name in ("edge", "app", "redis", "mongo"))]:
        directory.mkdir(mode=0o700, exist_ok=True)
        for entry in [directory, *directory.iterdir()]:
            if entry.suffix == UNFINISHED:
                entry.unlink()
            elif not entry.is_symlink():
                if stat.S_IMODE(entry.stat().st_mode) & 0o077:
                    entry.chmod(0o700 if entry.is_dir() else 0o600)
                if os.getuid() == 0 and directory != DIRECTORY:
                    os.chown(entry, *owner())
    finish_entering()


def complete():
    """Makes all that is missing; returns the words for it."""
    tidy()
    made = make_missing()
    if not is_there("edge/htpasswd"):
        enter(FIRST_USER, new_password())
        made.append(f"a password for {FIRST_USER} (curlrc)")
    return made + make_env()


def check_all():
    """The first thing that is missing or cannot be used."""
    for name in [*(secret.name for secret in SECRETS), "edge/htpasswd"]:
        if not is_there(name):
            raise Failure(f"{path(name)} is missing")
    for secret in SECRETS:
        secret.check(secret.name)
    check_users()
    if not env_setting():
        raise Failure(f"{ENV_FILE} does not say MULTIVAC_USER")


def rotate(what):
    restart = "docker compose restart api worker"
    if what == "redis":
        replace("redis/redis.conf")
        restart = "docker compose restart redis api worker"
    elif what == "mongo":
        # deploy/mongo/init.js changes the password, for which it needs the one in force. If it has not run since the last
        # rotation, that is an older one, so all previous ones are kept.
        before = [read("mongo/root_password").strip()]
        before += read("mongo/root_password.old").split() if is_there("mongo/root_password.old") else []
        put("mongo/root_password.old", "\n".join(dict.fromkeys(before)) + "\n")
        replace("mongo/root_password")
        replace("mongo/app_password")
        restart = "docker compose run --rm mongo-init && docker compose restart api worker"
    elif what == "keyfile":
        replace("mongo/keyfile")
        restart = "docker compose restart mongo"
    else:
        replace("edge/tls.key")
    make_missing()
    if what == "certificate":
        say("the edge uses the new certificate within two seconds; who trusts the old one needs the new one")
    else:
        say(f"now: {restart}")


def person(name):
    if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9._-]{0,63}", name):
        raise argparse.ArgumentTypeError("a name has 1 to 64 letters, digits, '.', '_' or '-', and does not begin with '-'")
    return name


def host(name):
    if not is_address(name) and not is_host_name(name):
        raise argparse.ArgumentTypeError(f"{name!r} is neither a name such as multivac.example.org nor an address")
    return name


def read_options():
    parser = argparse.ArgumentParser(
        prog="scripts/setup.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--user", metavar="NAME", type=person)
    # Any name, so that one that a hand has put there can be removed.
    one.add_argument("--remove-user", metavar="NAME")
    one.add_argument("--rotate", metavar="WHAT", choices=["redis", "mongo", "keyfile", "certificate"])
    one.add_argument("--check", action="store_true")
    parser.add_argument("--ask", action="store_true")
    parser.add_argument("--name", metavar="NAME", type=host, action="append", default=[])
    given = parser.parse_args()
    if given.ask and not given.user:
        parser.error("--ask goes with --user NAME")
    return given


def main():
    os.umask(0o077)
    os.chdir(ROOT)
    if not shutil.which("openssl"):
        raise Failure("openssl is missing")
    if options.check:
        if not DIRECTORY.is_dir():
            raise Failure("there is nothing yet: run scripts/setup.py")
        with alone():
            check_all()
            warnings = list(certificate_warnings())
        for warning in warnings:
            say(warning)
        return 1 if warnings else 0
    typed = type_password(options.user) if options.ask else None
    with alone():
        if options.remove_user is not None:
            tidy()
            remove_user(options.remove_user)
            return 0
        if options.rotate and not path("edge").is_dir():
            raise Failure("there is nothing yet: run scripts/setup.py")
        made = complete()
        for thing in made:
            say(f"made {thing}")
        if options.user:
            add_user(options.user, typed)
            return 0
        if options.rotate:
            rotate(options.rotate)
        check_all()
        for warning in certificate_warnings():
            say(f"WARNING: {warning}")
        if not options.rotate:
            say("next: docker compose up -d --wait" if made else "made nothing: everything is there")
    return 0


if __name__ == "__main__":
    options = read_options()
    try:
        sys.exit(main())
    except Failure as reason:
        say(reason)
    except OSError as error:
        say(error)
    except KeyboardInterrupt:
        pass
    sys.exit(2)
