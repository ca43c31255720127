"""Run the tests on every installed Python from 3.8 to 3.14: `make test-all`.

PyTorch is not installed for them. Python 3.8 to 3.11 have MXNet; Python 3.12 to 3.14 have NumPy 2 and no MXNet. Python
3.12 runs the tests again with NumPy 1.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Dict

import nox

VERSIONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
NUMPY_1 = "3.12"  # the newest Python for which NumPy 1 has wheels
PRINT_VERSION = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"


def find_pythons() -> Dict[str, str]:
    """Return the path of an interpreter for each version; each is started, because a pyenv shim may lead nowhere."""
    pyenv = sorted(str(path) for path in Path.home().glob(".pyenv/versions/*/bin/python"))
    pythons: Dict[str, str] = {}
    for candidate in [f"python{version}" for version in VERSIONS] + pyenv:
        path = shutil.which(candidate)
        if path is None:
            continue
        answer = subprocess.run([path, "-c", PRINT_VERSION], capture_output=True, text=True, check=False)
        version = answer.stdout.strip()
        if answer.returncode == 0 and version in VERSIONS:
            pythons.setdefault(version, path)
    return pythons


def tests(session: nox.Session) -> None:
    """Install the package as a user does, from a wheel, and run its tests."""
    session.install("--require-hashes", "--no-deps", "-r", "requirements.txt")
    shutil.rmtree("build", ignore_errors=True)  # setuptools would pack the files of an older build
    session.install("--no-deps", "--no-build-isolation", ".")
    processes = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")
    if session.name.endswith("numpy1"):
        session.install("numpy<2", "scipy", "scikit-learn", "matplotlib", "pycocotools", "opencv-python-headless")
    session.run("pytest", *processes, "-p", "no:cacheprovider", *session.posargs, env={"OMP_NUM_THREADS": "1"})


PYTHONS = find_pythons()
FOUND = [version for version in VERSIONS if version in PYTHONS]
MISSING = [version for version in VERSIONS if version not in PYTHONS]
print(f"Pythons found: {', '.join(FOUND) or 'none'}; not found: {', '.join(MISSING) or 'none'}")
for known in FOUND:
    for suffix in ("", "-numpy1")[: 1 + (known == NUMPY_1)]:
        nox.session(tests, name=f"tests-{known}{suffix}", python=PYTHONS[known], venv_backend="venv")
