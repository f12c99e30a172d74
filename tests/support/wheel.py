"""The project as a wheel."""

import subprocess
import sys
from pathlib import Path

from .places import ROOT


def built(directory: Path) -> Path:
    """A wheel built from a source distribution, as a package registry's users would get it; no network is needed."""
    backend = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(directory)]
    subprocess.run(backend, cwd=ROOT, check=True, capture_output=True)
    (source,) = directory.glob("*.tar.gz")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", str(directory), str(source)]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    return wheel
