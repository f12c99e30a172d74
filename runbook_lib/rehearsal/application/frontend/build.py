"""Builds dist/: assets named by their content, the page that refers to them, and the version they come from."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent


def build() -> None:
    source, fresh, dist = HERE / "src", HERE / "dist.new", HERE / "dist"
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "assets").mkdir(parents=True)
    page = (source / "index.html").read_text()
    for name in ("app.js", "style.css"):
        content = (source / name).read_bytes()
        stem, suffix = name.split(".")
        hashed = f"{stem}.{hashlib.sha256(content).hexdigest()[:10]}.{suffix}"
        (fresh / "assets" / hashed).write_bytes(content)
        page = page.replace(f"/assets/{name}", f"/assets/{hashed}")
    (fresh / "index.html").write_text(page)
    shutil.copy(source / "favicon.svg", fresh)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True)
    (fresh / "version.json").write_text(json.dumps({"version": head.stdout.strip()}))
    shutil.rmtree(dist, ignore_errors=True)
    fresh.rename(dist)


if __name__ == "__main__":
    build()
