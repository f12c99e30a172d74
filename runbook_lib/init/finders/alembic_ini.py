"""alembic.ini: where Alembic's revisions are."""

import re
from collections.abc import Iterator
from pathlib import Path

from runbook_lib.init.found import Folder, Found, Migrations, within

RANK = 9


def find(folder: Folder) -> Iterator[Found]:
    """Return the migrations of Alembic. Read-only."""
    for where, text in folder.files("alembic.ini"):
        named = re.search(r"^script_location\s*=\s*(\S+)", text, re.MULTILINE)
        location = re.sub(r"^%\(here\)s/?", "", named[1]) if named else "alembic"
        command, to = (within(where, ["alembic", "upgrade", version]) for version in ("head", "{version}"))
        yield Found(where, migrations=Migrations("alembic", str(Path(where).parent / location / "versions"), command, to))
