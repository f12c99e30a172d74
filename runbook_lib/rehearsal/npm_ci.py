"""Installs the packages of a Node.js repository as `npm ci` does, once for each lock file.

Usage: python -m runbook_lib.rehearsal.npm_ci, in the repository.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = Path(sys.prefix) / "node-modules"
FILES = ("package.json", "package-lock.json", ".npmrc")
PACKAGES = "node_modules"


def install(repository: Path) -> None:
    """Put the packages into a repository: those of an earlier `npm ci` of the same files, by hard links. Changes it.

    Raises:
        CalledProcessError: npm failed.
    """
    kept = _kept(repository)
    shutil.rmtree(repository / PACKAGES, ignore_errors=True)
    _copy(kept, repository / PACKAGES)


def _kept(repository: Path) -> Path:
    files = [file for name in FILES if (file := repository / name).exists()]
    key = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:32]
    kept = CACHE / key / PACKAGES
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="part-") as made:
            for file in files:
                shutil.copy(file, made)
            subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=made, check=True)
            (Path(made) / PACKAGES).mkdir(exist_ok=True)  # npm makes none where there is nothing to install
            kept.parent.mkdir(exist_ok=True)
            try:
                (Path(made) / PACKAGES).rename(kept)
            except OSError:  # another process was first
                if not kept.exists():
                    raise
    return kept


def _copy(source: Path, target: Path) -> None:
    def linked(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:  # the cache is on another file system
            shutil.copy2(one, other)

    shutil.copytree(source, target, symlinks=True, copy_function=linked)


if __name__ == "__main__":
    try:
        install(Path.cwd())
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # npm has said why
