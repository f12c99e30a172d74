"""Prisma's schema: its migrations, and the variable that holds the database's address."""

import re
from collections.abc import Iterator
from pathlib import Path

from runbook_lib.init.found import Folder, Found, Migrations, within

RANK = 9


def find(folder: Folder) -> Iterator[Found]:
    """Return the migrations of Prisma. Read-only."""
    for where, text in folder.files("prisma/schema.prisma"):
        top = Path(where).parents[1]
        variable = re.search(r"\burl\s*=\s*env\([\"'](\w+)[\"']\)", text)
        command = within(str(top / "package.json"), ["npx", "prisma", "migrate", "deploy"])
        yield Found(
            where,
            variables=[variable[1]] if variable else (),
            database_variable=variable[1] if variable else "",
            migrations=Migrations("prisma", str(Path(where).parent / "migrations"), command),
        )
