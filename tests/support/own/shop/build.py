"""Builds dist/ from what is checked out."""

import json
import shutil
import subprocess
from pathlib import Path

head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
Path("dist").mkdir(exist_ok=True)
shutil.copy("app.py", "dist/app.py")
Path("dist/version.json").write_text(json.dumps({"version": head}))
