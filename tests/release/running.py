"""What the rules of releases share: running a program, and what cargo says of the crates."""

import functools
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DOCUMENTS, IMAGES = str(ROOT / "scripts/release-documents.py"), str(ROOT / "scripts/images.sh")
TIMEOUT = 300
# What CI's jobs have in their environment, of which the tests must not depend.
OF_CI = ("CI", "GIT", "JENKINS", "BUILD_", "SIGSTORE", "ACTIONS_", "REGISTRY_", "COSIGN_")


def run(*words, status=0, given=None, only=None, timeout=TIMEOUT, **more):
    """What a program printed, once it has ended with this status; with `only`, of CI's variables it has these alone."""
    environment = {name: value for name, value in os.environ.items() if only is None or not name.startswith(OF_CI)}
    done = subprocess.run(list(words), cwd=ROOT, input=given, env={**environment, **(only or {}), **more}, capture_output=True, timeout=timeout)
    said = (done.stdout + (b"" if status == 0 else done.stderr)).decode(errors="replace")
    assert done.returncode == status, f"{' '.join(words)}: status {done.returncode}\n{said}\n{done.stderr.decode(errors='replace')[-3000:]}"
    return said


@functools.lru_cache
def crates(program):
    """As deploy/docker/Dockerfile asks for them."""
    return run("cargo", "tree", "--locked", "-p", program, "-e", "normal,build", "--prefix", "depth", "--format", "|{p}|{l}|{r}")
