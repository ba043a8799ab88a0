#!/usr/bin/env python3
"""Tries scripts/setup.py: what it makes, what it refuses, many runs at once, and a run that is killed at each of its steps.

    tests/setup/setup_rules.py

What it needs   python3, openssl, curl. Works in temporary directories.
What it returns 0 if every rule holds, else 1; a line for each, and the last line counts them. Half a minute.
"""

import contextlib
import base64
import hashlib
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import rules  # noqa: E402

SETUP = HERE.parent.parent / "scripts/setup.py"
FILES = [
    "edge/tls.key", "edge/tls.crt", "edge/htpasswd", "redis/redis.conf", "app/redis_url",
    "mongo/app_password", "app/mongo_url", "mongo/root_password", "mongo/keyfile", "curlrc",
    "grafana/admin_password", "alertmanager/page_url", "alertmanager/ticket_url",
]  # fmt: skip
TIMEOUT = 100


class Installation:
    """A directory of secrets and a file of settings, of its own."""

    def __init__(self, directory):
        self.secrets, self.env_file = pathlib.Path(directory, "secrets"), pathlib.Path(directory, "env")
        self.environment = os.environ | {"MULTIVAC_SECRETS": str(self.secrets), "MULTIVAC_ENV_FILE": str(self.env_file)}

    def run(self, *arguments, typed="", before=()):
        command = [*before, str(SETUP), *arguments]
        return subprocess.run(
            [sys.executable, *command], env=self.environment, input=typed, capture_output=True, text=True, timeout=TIMEOUT
        )

    def read(self, name):
        return (self.secrets / name).read_text()

    def write(self, name, text):
        (self.secrets / name).write_text(text)

    def files(self):
        """All files with their modes and sums."""
        found = [path for path in [*self.secrets.rglob("*"), self.env_file] if path.is_file()]
        return {str(path): (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest()) for path in found}

    def users(self):
        return [line.split(":")[0] for line in self.read("edge/htpasswd").splitlines()]

    def takes(self, name, password):
        """Whether the edge would let this user in."""
        hashed = re.search(rf"^{re.escape(name)}:(.*)$", self.read("edge/htpasswd"), re.MULTILINE)[1]
        if hashed.startswith("{SSHA}"):
            digest = base64.b64decode(hashed[6:])
            return hashlib.sha1(password.encode() + digest[20:]).digest() == digest[:20]
        return openssl("passwd", "-6", "-salt", hashed[3:].rpartition("$")[0], "-stdin", given=password).strip() == hashed

    def curl_user(self):
        return re.search(r'^user = "(.*)"$', self.read("curlrc"), re.MULTILINE)[1].split(":", 1)

    def assert_whole(self):
        """Everything is there, fits together, and is for its owner alone; nothing else is there."""
        for name in FILES:
            assert (self.secrets / name).stat().st_size > 0, name
        for path in [self.secrets, *self.secrets.rglob("*"), self.env_file]:
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
        there = {str(path.relative_to(self.secrets)) for path in self.secrets.rglob("*") if path.is_file()}
        assert there - {"mongo/root_password.old"} == {*FILES, ".lock"}, there
        assert self.read("redis/redis.conf").split()[1] in self.read("app/redis_url")
        assert self.read("mongo/app_password") in self.read("app/mongo_url")
        key = openssl("pkey", "-in", self.secrets / "edge/tls.key", "-pubout")
        assert openssl("x509", "-in", self.secrets / "edge/tls.crt", "-noout", "-pubkey") == key
        assert self.takes(*self.curl_user()), "the user of curlrc is let in"
        assert re.search(r"^MULTIVAC_USER=\d+:\d+$", self.env_file.read_text(), re.MULTILINE)


def openssl(*arguments, given=""):
    return subprocess.run(["openssl", *map(str, arguments)], input=given, capture_output=True, text=True, check=True).stdout


class SetupRules(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="multivac-setup.")
        self.addCleanup(directory.cleanup)
        self.it = Installation(directory.name)

    def succeeds(self, *arguments, **more):
        done = self.it.run(*arguments, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def refuses(self, said, *arguments, **more):
        """Ends with 2, says so, prints no password, and changes nothing."""
        before = self.it.files()
        done = self.it.run(*arguments, **more)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        self.assertRegex(done.stderr, said)
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual(self.it.files(), before)

    # --- what it makes -----------------------------------------------------------------------------------------------

    def test_everything_is_made_once(self):
        self.succeeds()
        self.it.assert_whole()
        before = self.it.files()
        self.assertIn("made nothing", self.succeeds().stderr)
        self.succeeds("--check")
        self.assertEqual(self.it.files(), before)

    def test_the_certificate_is_a_servers_and_no_ca(self):
        self.succeeds("--name", "multivac.example.org", "--name", "192.0.2.7")
        text = openssl("x509", "-in", self.it.secrets / "edge/tls.crt", "-noout", "-text")
        for expected in (
            r"Basic Constraints: critical\s+CA:FALSE",
            r"Key Usage: critical\s+Digital Signature\n",
            r"Extended Key Usage:\s+TLS Web Server Authentication\n",
            r"DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, .*DNS:multivac.example.org, IP Address:192.0.2.7",
        ):
            self.assertRegex(text, expected)
        self.refuses("is not for other.example.org", "--name", "other.example.org")

    def test_who_trusts_the_certificate_trusts_it_for_its_own_names_alone(self):
        self.succeeds()
        edge = self.it.secrets / "edge"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(edge / "tls.crt", edge / "tls.key")
        with serving(context) as port:
            curl = ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", str(edge / "tls.crt"), "--max-time", "20"]
            there = subprocess.run([*curl, f"https://localhost:{port}/"], capture_output=True, text=True)
            self.assertEqual((there.returncode, there.stdout), (0, "-"), there.stderr)
            strict = ssl.create_default_context(cafile=edge / "tls.crt")
            strict.verify_flags |= ssl.VERIFY_X509_STRICT
            with strict.wrap_socket(socket.create_connection(("127.0.0.1", port), 20), server_hostname="localhost"):
                pass
        # Whoever has the key signs a certificate for another name.
        evil = self.it.secrets.parent
        (evil / "extensions").write_text("subjectAltName=DNS:evil.test\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", evil / "key", "-out", evil / "request", "-subj", "/CN=evil")
        openssl("x509", "-req", "-in", evil / "request", "-CA", edge / "tls.crt", "-CAkey", edge / "tls.key", "-out", evil / "crt", "-CAcreateserial", "-CAserial", evil / "serial", "-extfile", evil / "extensions")
        verified = subprocess.run(["openssl", "verify", "-CAfile", edge / "tls.crt", evil / "crt"], capture_output=True, text=True)
        self.assertNotEqual(verified.returncode, 0, verified.stdout)

    def test_files_that_others_could_read_are_closed(self):
        self.succeeds()
        for path in [self.it.secrets, *self.it.secrets.rglob("*")]:
            path.chmod(0o755)
        self.succeeds()
        self.it.assert_whole()

    def test_the_settings_of_others_in_env_are_kept(self):
        self.it.env_file.write_text("MULTIVAC_HTTPS_PORT=443")
        self.succeeds()
        self.assertRegex(self.it.env_file.read_text(), r"(?s)^MULTIVAC_HTTPS_PORT=443\n.*\nMULTIVAC_USER=\d+:\d+\n$")

    # --- users -------------------------------------------------------------------------------------------------------

    def test_users_come_and_go(self):
        password = self.succeeds("--user", "susan").stdout.strip()
        self.assertTrue(self.it.takes("susan", password))
        self.assertEqual(self.it.users(), ["multivac", "susan"])
        other = self.succeeds("--user", "susan").stdout.strip()
        self.assertTrue(self.it.takes("susan", other) and not self.it.takes("susan", password))
        self.succeeds("--user", "multivac")
        self.it.assert_whole()
        self.succeeds("--remove-user", "multivac")
        self.assertEqual(self.it.users(), ["susan"])
        self.assertFalse((self.it.secrets / "curlrc").exists(), "it had the password of one who is gone")
        self.refuses("only user", "--remove-user", "susan")
        self.refuses("no user calvin", "--remove-user", "calvin")
        # Who deleted curlrc does not want it back.
        self.succeeds()
        self.assertFalse((self.it.secrets / "curlrc").exists())

    def test_a_typed_password_may_hold_any_sign(self):
        password = 'quote " backslash \\ # : % ü'
        self.succeeds("--user", "multivac", "--ask", typed=f"{password}\n{password}\n")
        self.assertTrue(self.it.takes("multivac", password))
        with serving() as port:
            config = ["--config", str(self.it.secrets / "curlrc"), "--silent", "--noproxy", "*", "--max-time", "20"]
            sent = subprocess.run(["curl", *config, f"http://127.0.0.1:{port}/"], capture_output=True, text=True).stdout
        self.assertEqual(sent, f"multivac:{password}")

    def test_typed_passwords_that_cannot_be_are_refused(self):
        self.succeeds()
        long = "x" * 257
        for typed in ("", "short\nshort\n", "long enough 1\nlong enough 2\n", f"{long}\n{long}\n", "long enough \t\nlong enough \t\n"):
            self.refuses("password|the same", "--user", "susan", "--ask", typed=typed)

    def test_arguments_that_mean_nothing_are_refused(self):
        self.succeeds()
        for arguments in (
            ["--user"], ["--user", "--ask"], ["--user=--ask"], ["--user", ""], ["--user", "a b"], ["--user", "a:b"],
            ["--user", "a\nb"], ["--user", "x" * 65], ["--user", "-x"], ["--user", "susan", "--remove-user", "calvin"],
            ["--user", "susan", "--aks"], ["--user", "susan", "ask"], ["--ask"], ["--use", "susan"], ["--rotate"],
            ["--rotate", "everything"], ["--name", "a b"], ["--name", "a,DNS:b"], ["--name", ""], ["susan"], ["--check", "--user", "x"],
        ):  # fmt: skip
            with self.subTest(arguments):
                self.refuses("expected|a name|invalid|unrecognized|neither|not allowed|goes with", *arguments)

    # --- what is there already -----------------------------------------------------------------------------------------

    def test_ones_own_certificate_is_never_overwritten(self):
        self.succeeds()
        for gone, kept in (("edge/tls.key", "edge/tls.crt"), ("redis/redis.conf", "app/redis_url"), ("mongo/app_password", "app/mongo_url")):
            with self.subTest(gone):
                text = self.it.read(gone)
                (self.it.secrets / gone).unlink()
                try:
                    self.refuses(f"{kept} is there without .*{gone}", "--user", "susan")
                    self.refuses(f"{kept} is there without .*{gone}")
                finally:
                    self.it.write(gone, text)
                    (self.it.secrets / gone).chmod(0o600)
        # A key whose certificate is missing gets one, and stays.
        key = self.it.read("edge/tls.key")
        (self.it.secrets / "edge/tls.crt").unlink()
        self.succeeds()
        self.it.assert_whole()
        self.assertEqual(self.it.read("edge/tls.key"), key)

    def test_what_cannot_be_used_is_told(self):
        self.succeeds()
        encrypted = openssl("pkey", "-in", self.it.secrets / "edge/tls.key", "-aes256", "-passout", "pass:secret")
        other = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        certificate = self.it.read("edge/tls.crt")
        for name, text in (
            ("edge/tls.key", "garbage\n"), ("edge/tls.key", encrypted), ("edge/tls.key", certificate), ("edge/tls.key", other),
            ("edge/tls.crt", "garbage\n"), ("edge/tls.crt", self.it.read("edge/tls.key")), ("edge/tls.crt", certificate[:-40]),
            ("edge/tls.crt", certificate + certificate[:-40]), ("edge/tls.crt", self.certificate(-1)),
            ("edge/htpasswd", "garbage\n"), ("edge/htpasswd", "susan:\n"), ("edge/htpasswd", "susan:password\n"), ("edge/htpasswd", ":$6$a$b\n"),
            ("edge/htpasswd", "# nobody\n"), ("redis/redis.conf", "garbage\n"), ("app/redis_url", "garbage\n"), ("app/mongo_url", "garbage\n"),
            ("mongo/keyfile", "<garbage>\n"), ("alertmanager/ticket_url", "garbage\n"),
        ):  # fmt: skip
            with self.subTest(name=name, text=text[:40]):
                before = self.it.read(name)
                self.it.write(name, text)
                try:
                    self.refuses(name)
                    self.refuses(name, "--check")
                finally:
                    self.it.write(name, before)
        (self.it.secrets / "edge/tls.crt").write_bytes(b"\xff\x00")
        self.refuses("tls.crt is not text")
        self.it.write("edge/tls.crt", certificate)
        before = self.it.env_file.read_text()
        self.it.env_file.write_text("MULTIVAC_USER=susan\n")
        self.refuses("UID:GID")
        self.it.env_file.write_text(before)
        self.it.assert_whole()

    def test_a_certificate_is_warned_of_before_it_expires(self):
        self.succeeds()
        self.it.write("edge/tls.crt", self.certificate(20))
        self.assertRegex(self.succeeds().stderr, r"WARNING: .*tls.crt expires in \d+ days, on 20")
        done = self.it.run("--check")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"expires in \d+ days")
        self.refuses("was not made by setup.py", "--rotate", "certificate")
        for name in ("edge/tls.crt", "edge/tls.key"):
            (self.it.secrets / name).unlink()
        self.succeeds()
        before = self.it.read("edge/tls.crt")
        self.succeeds("--rotate", "certificate")
        self.succeeds("--check")
        self.it.assert_whole()
        self.assertNotEqual(self.it.read("edge/tls.crt"), before)

    def test_the_certificate_of_a_ca_is_warned_of(self):
        self.succeeds()
        self.it.write("edge/tls.crt", self.certificate(300, "basicConstraints=critical,CA:TRUE"))
        self.assertRegex(self.succeeds().stderr, "WARNING: .*can vouch for every name")

    def certificate(self, days, extension="basicConstraints=CA:FALSE"):
        """One for the key that is there, that ends in so many days."""
        key = self.it.secrets / "edge/tls.key"
        with tempfile.TemporaryDirectory() as there:
            pathlib.Path(there, "extensions").write_text(f"subjectAltName=DNS:localhost\n{extension}\n")
            request = openssl("req", "-new", "-key", key, "-subj", "/CN=x")
            return openssl("x509", "-req", "-signkey", key, "-days", days, "-extfile", f"{there}/extensions", given=request)

    def test_openssl_has_to_be_there(self):
        self.succeeds()
        self.it.environment["PATH"] = str(self.it.secrets)
        self.refuses("openssl is missing")

    # --- many at once, and killed at any moment --------------------------------------------------------------------------

    def test_many_first_runs_at_once_make_one_of_everything(self):
        with ThreadPoolExecutor(4) as pool:
            done = [run.result() for run in [pool.submit(self.it.run) for _ in range(4)]]
        self.assertEqual([run.returncode for run in done], [0] * 4)
        self.assertEqual(sum("made nothing" in run.stderr for run in done), 3)
        self.it.assert_whole()

    def test_twelve_users_added_at_once_are_all_there(self):
        names = [f"user{n}" for n in range(12)]
        with ThreadPoolExecutor(12) as pool:
            done = [run.result() for run in [pool.submit(self.it.run, "--user", name) for name in names]]
        self.assertEqual([run.returncode for run in done], [0] * 12)
        self.assertEqual(sorted(self.it.users()), sorted(["multivac", *names]))
        for name, run in zip(names, done):
            self.assertTrue(self.it.takes(name, run.stdout.strip()), name)

    def test_killed_at_any_step_the_next_run_completes_it(self):
        with tempfile.TemporaryDirectory(prefix="multivac-setup.") as directory, ThreadPoolExecutor(4) as pool:
            whole = pathlib.Path(directory, "whole")
            whole.mkdir()
            self.assertEqual(Installation(whole).run().returncode, 0)
            killed = 0
            for arguments in ([], ["--user", "multivac"], ["--rotate", "redis"], ["--rotate", "mongo"], ["--rotate", "certificate"]):
                steps = 0
                # Four at once, until there are no more steps.
                while True:
                    tried = list(pool.map(lambda step: self.killed(directory, whole, arguments, step), range(steps, steps + 4)))
                    killed += sum(tried)
                    steps += 4
                    if not all(tried):
                        break
            print(f"        killed {killed} times", flush=True)
            self.assertGreater(killed, 40)

    def killed(self, directory, whole, arguments, step):
        """Whether the run got as far as that step."""
        it = Installation(pathlib.Path(directory, "-".join([*arguments, str(step)])))
        it.secrets.parent.mkdir()
        if arguments:
            subprocess.run(["cp", "-a", f"{whole}/.", str(it.secrets.parent)], check=True)
        done = it.run(*arguments, before=[str(HERE / "killed_at.py"), str(step)])
        assert done.returncode in (0, -9), done.stderr
        completed = it.run()
        assert completed.returncode == 0, (arguments, step, completed.stderr)
        it.assert_whole()
        return done.returncode == -9


@contextlib.contextmanager
def serving(context=None):
    """A server that replies with the name and the password that it is sent; yields its port."""

    class Echo(BaseHTTPRequestHandler):
        def do_GET(self):
            import base64

            body = base64.b64decode(self.headers.get("Authorization", "Basic LQ==").removeprefix("Basic "))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Echo)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    rules.run("setup")
