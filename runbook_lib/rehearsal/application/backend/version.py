"""The commit this build was made from."""

import json
from pathlib import Path

VERSION: str = json.loads(Path(__file__).with_name("version.json").read_text())["version"][:12]
