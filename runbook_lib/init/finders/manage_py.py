"""manage.py: Django's migrations, of the one app that has any."""

from collections.abc import Iterator
from pathlib import Path

from runbook_lib.init.found import Folder, Found, Migrations, within

RANK = 9


def find(folder: Folder) -> Iterator[Found]:
    """Return the migrations of Django. Read-only."""
    for where, text in folder.files("manage.py"):
        if "django" not in text:
            continue
        top = folder.path / Path(where).parent
        apps = sorted({path.parent for path in top.glob("*/migrations/__init__.py")} | {*top.glob("*/*/migrations")})
        directory = str(apps[0].relative_to(folder.path)) if len(apps) == 1 else "**/migrations"
        yield Found(where, migrations=Migrations("django", directory, within(where, ["python", "manage.py", "migrate"])))
