#!/usr/bin/env python3
"""Makes what the full system needs before its first start: a certificate, passwords, and the first user.

    scripts/setup.py                      makes what is missing; run again, it changes nothing
    scripts/setup.py --name NAME          the same, with a certificate for this name or address too (may be repeated)
    scripts/setup.py --user NAME          adds a user who may feed and retract, or changes the password, and prints it once
    scripts/setup.py --user NAME --ask    the same, with a password that you type
    scripts/setup.py --remove-user NAME   removes a user
    scripts/setup.py --rotate WHAT        new passwords of redis or mongo, a new keyfile or certificate; prints what to restart
    scripts/setup.py --check              changes nothing, and says what is missing, broken or about to expire
    scripts/setup.py --kubernetes         what it does besides, as one of the above too, is done to the Secrets of a cluster

What it makes   secrets/ (never committed, mode 700, each file 600), and .env, which tells docker compose the user that
                the containers run as: you, so that they can read the files; the user 65532 if you are root.
                  edge/   tls.crt, tls.key     a self-signed certificate; replace it by your own
                          htpasswd             the users who may change data, with the hashes of their passwords
                  app/    redis_url, mongo_url what the api and the workers connect with
                  redis/  redis.conf           its password
                  mongo/  keyfile, root_password, app_password (and the previous root passwords, which changing it needs)
                  grafana/  admin_password     for the profile `monitoring`, as the next
                  alertmanager/  page_url, ticket_url   where alerts are sent: to nobody until you put URLs there
                  curlrc  for `curl -K secrets/curlrc …`: the first user's name and password, and the certificate
                  kubernetes/  redis_admin_password   what the nodes of a Redis Cluster copy from each other with
Kubernetes      --context C, --namespace N and --release R say where (the current context, multivac, multivac); --redis standalone, cluster
                or external, --mongo-members 3, or 0 for a MongoDB of your own: the URLs of what is external are those of
                secrets/app. Makes the namespace if it is missing. What secrets/ lacks and the cluster has is taken over; where both differ
                nothing is changed without --replace.
What it needs   python3 (3.9 or newer) and openssl; kubectl for --kubernetes.
Elsewhere       MULTIVAC_SECRETS names another directory, MULTIVAC_ENV_FILE another file.
What it returns 0 if everything is there and valid; 2 and the reason if not; --check: 1 if something needs to be done soon.

Runs at the same time wait for each other. Each file is written whole or not at all, and in such an order that the next
run completes what one that was killed had begun.
"""

import argparse
import base64
import os
import pathlib
import re
import secrets
import shutil
import sys

from installation import certificate, kubernetes, users
from installation.files import DIRECTORY, ENV_FILE, Failure, alone, env_setting, is_there, make_env, path, put, read, remove, say, tidy

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIRST_USER = "multivac"
# Nothing listens on the discard port.
NOBODY = "http://localhost:9/\n"

options = argparse.Namespace(name=[])


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


# In the order in which they are made. `users` has htpasswd and curlrc, since users come and go.
SECRETS = [
    Secret(
        "edge/tls.key",
        certificate.new_key,
        certificate.check_key,
        what="a self-signed certificate for localhost (edge/tls.crt)",
    ),
    Secret(
        "edge/tls.crt",
        lambda: certificate.new_certificate(options.name),
        lambda name: certificate.check_certificate(name, options.name),
        "edge/tls.key",
    ),
    Secret(
        "redis/redis.conf",
        lambda: f"requirepass {users.new_password()}\n",
        lambda name: redis_password(),
        what="a password for Redis",
    ),
    Secret(
        "app/redis_url",
        lambda: f"redis://:{redis_password()}@redis:6379\n",
        like(r"rediss?://\S+", "a URL of Redis"),
        "redis/redis.conf",
    ),
    Secret("mongo/app_password", users.new_password, like(".+", "a password"), what="a password for MongoDB"),
    Secret(
        "app/mongo_url",
        lambda: f"mongodb://multivac:{read('mongo/app_password').strip()}@mongo:27017/multivac?replicaSet=rs0\n",
        like(r"mongodb(\+srv)?://\S+", "a URL of MongoDB"),
        "mongo/app_password",
    ),
    Secret("mongo/root_password", users.new_password, like(".+", "a password"), what="a password for MongoDB's administrator"),
    Secret(
        "mongo/keyfile",
        lambda: base64.encodebytes(secrets.token_bytes(384)).decode(),
        like(r"[A-Za-z0-9+/=\s]{6,1100}", "a keyfile of MongoDB"),
        what="a key for MongoDB's replica set",
    ),
    Secret("grafana/admin_password", users.new_password, like(".+", "a password"), what="a password for Grafana's administrator"),
    Secret("alertmanager/page_url", lambda: NOBODY, like(r"https?://\S+", "a URL"), what="a place for the URL that pages are sent to"),
    Secret("alertmanager/ticket_url", lambda: NOBODY, like(r"https?://\S+", "a URL"), what="a place for the URL that tickets are sent to"),
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


# --- from start to end ------------------------------------------------------------------------------------------------


def complete():
    """Makes all that is missing; returns the words for it."""
    tidy()
    users.finish_entering()
    made = make_missing()
    if not is_there("edge/htpasswd"):
        users.enter(FIRST_USER, users.new_password())
        made.append(f"a password for {FIRST_USER} (curlrc)")
    return made + make_env()


def check_all():
    """The first thing that is missing or cannot be used."""
    for name in [*(secret.name for secret in SECRETS), "edge/htpasswd"]:
        if not is_there(name):
            raise Failure(f"{path(name)} is missing")
    for secret in SECRETS:
        secret.check(secret.name)
    users.check()
    if not env_setting():
        raise Failure(f"{ENV_FILE} does not say MULTIVAC_USER")


def rotate(what, cluster):
    if what == "redis":
        replace("redis/redis.conf")
        then = "docker compose restart redis api worker"
    elif what == "mongo":
        # deploy/mongo/init.js changes the password, for which it needs the one in force. If it has not run since the last
        # rotation, that is an older one, so all previous ones are kept.
        before = [read("mongo/root_password").strip()]
        before += read("mongo/root_password.old").split() if is_there("mongo/root_password.old") else []
        put("mongo/root_password.old", "\n".join(dict.fromkeys(before)) + "\n")
        replace("mongo/root_password")
        replace("mongo/app_password")
        then = "docker compose run --rm mongo-init && docker compose restart api worker"
    elif what == "keyfile":
        replace("mongo/keyfile")
        then = "docker compose restart mongo"
    else:
        if is_there("edge/tls.crt") and not certificate.is_own_work():
            raise Failure(f"{path('edge/tls.crt')} was not made by setup.py; remove it and tls.key first if it is to be replaced")
        replace("edge/tls.key")
        then = "give the new certificate to those who trust the old one; the edge uses it within two seconds"
    make_missing()
    if cluster:
        tell(cluster.apply(kubernetes.REPLACES[what]))
        then = cluster.then(what)
    say(f"now: {then}")


def tell(made):
    for thing in made:
        say(thing)


def person(name):
    if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9._-]{0,63}", name):
        raise argparse.ArgumentTypeError("a name has 1 to 64 letters, digits, '.', '_' or '-', and does not begin with '-'")
    return name


def label(name):
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?", name):
        raise argparse.ArgumentTypeError(f"{name!r}: expected at most 53 small letters, digits and '-', with a letter or digit at both ends")
    return name


def host(name):
    if not certificate.is_address(name) and not certificate.is_host_name(name):
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
    parser.add_argument("--kubernetes", action="store_true")
    where = {
        "--context": {"metavar": "CONTEXT"},
        "--namespace": {"metavar": "NAMESPACE", "type": label},
        "--release": {"metavar": "RELEASE", "type": label},
        "--redis": {"choices": ["standalone", "cluster", "external"]},
        "--mongo-members": {"type": int, "choices": [0, 1, 3, 5]},
        "--replace": {"action": "store_true", "default": None},
    }
    for flag, meaning in where.items():
        parser.add_argument(flag, **meaning)
    given = parser.parse_args()
    if given.ask and not given.user:
        parser.error("--ask goes with --user NAME")
    if given.check and given.kubernetes:
        parser.error("--check looks at the files alone")
    defaults = {"namespace": "multivac", "release": "multivac", "redis": "standalone", "mongo_members": 3}
    for flag in where:
        name = flag[2:].replace("-", "_")
        if getattr(given, name) is None:
            setattr(given, name, defaults.get(name))
        elif not given.kubernetes:
            parser.error(f"{flag} goes with --kubernetes")
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
            warnings = list(certificate.warnings())
        for warning in warnings:
            say(warning)
        return 1 if warnings else 0
    typed = users.type_password(options.user) if options.ask else None
    cluster = kubernetes.Cluster(options) if options.kubernetes else None
    if cluster:
        cluster.check()
    with alone():
        if cluster:
            tidy()
            cluster.take_over()
        if options.remove_user is not None:
            tidy()
            users.finish_entering()
            users.remove_user(options.remove_user)
            if cluster:
                tell(cluster.apply(kubernetes.REPLACES["users"]))
            return 0
        if options.rotate and not path("edge").is_dir():
            raise Failure("there is nothing yet: run scripts/setup.py")
        made = complete()
        for thing in made:
            say(f"made {thing}")
        if options.user:
            users.add_user(options.user, typed)
            if cluster:
                tell(cluster.apply(kubernetes.REPLACES["users"]))
            return 0
        if options.rotate:
            rotate(options.rotate, cluster)
        check_all()
        if cluster and not options.rotate:
            done = cluster.apply({*kubernetes.FILES, "app"} if options.replace else set())
            tell(done)
            context = options.context or "CONTEXT"
            say(f"next: scripts/k8s-deploy.sh VERSION --context {context} --namespace {options.namespace}" if done else "changed nothing in the cluster")
        for warning in certificate.warnings():
            say(f"WARNING: {warning}")
        if not options.rotate and not cluster:
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
