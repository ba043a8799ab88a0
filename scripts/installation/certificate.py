"""The edge's certificate and its key, by openssl."""

import datetime
import ipaddress
import re
import socket
import subprocess

from installation.files import Failure, path, read

VALID_DAYS, WARN_DAYS = 825, 30
OWN_OR_NEW = "replace it by your own, or run scripts/setup.py --rotate certificate"


def openssl(*arguments, given=""):
    """What openssl prints; a Failure with its last line if it fails."""
    done = subprocess.run(["openssl", *arguments], input=given.encode(), capture_output=True)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
        raise Failure(f"openssl {arguments[0]}: {said[-1]}")
    return done.stdout.decode()


def new_key():
    return openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def new_certificate(names):
    """Self-signed, and good for nothing but being this server: a CA's could vouch for every name to those who trust it."""
    names = dict.fromkeys(["localhost", "127.0.0.1", "::1", *machine_name(), *names])
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


def is_own_work():
    return "CN=MultiVAC" in openssl("x509", "-in", str(path("edge/tls.crt")), "-noout", "-issuer", "-nameopt", "RFC2253")


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


def check_certificate(name, names):
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
    for host in names:
        kind = "-checkip" if is_address(host) else "-checkhost"
        if "does match" not in openssl("x509", "-in", str(path(name)), "-noout", kind, host):
            raise Failure(f"{path(name)} is not for {host}; {OWN_OR_NEW}")



def now():
    return datetime.datetime.now(datetime.timezone.utc)


def validity(name):
    dates = openssl("x509", "-in", str(path(name)), "-noout", "-dates")
    found = re.findall(r"^not(?:Before|After)=(.*) GMT$", dates, re.MULTILINE)
    months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    for text in found:
        month, day, clock, year = text.split()
        yield datetime.datetime.fromisoformat(f"{year}-{months.index(month) + 1:02}-{int(day):02}T{clock}+00:00")


def warnings():
    """What should be done about the certificate, but not at once."""
    ends = list(validity("edge/tls.crt"))[1]
    if ends - now() < datetime.timedelta(days=WARN_DAYS):
        yield f"{path('edge/tls.crt')} expires in {(ends - now()).days} days, on {ends:%Y-%m-%d}; {OWN_OR_NEW}"
    if "CA:TRUE" in openssl("x509", "-in", str(path("edge/tls.crt")), "-noout", "-ext", "basicConstraints"):
        yield f"{path('edge/tls.crt')} is that of a CA, which can vouch for every name to those who trust it; {OWN_OR_NEW}"
