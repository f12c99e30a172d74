"""An example of a .env file: the variables that services need, and the role and port that two of them show."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from runbook_lib.init.found import Folder, Found

RANK = 8


def find(folder: Folder) -> Iterator[Found]:
    """Return the variables of an example; their values are left where they are, since one may be a secret. Read-only."""
    for where, text in folder.files(".env.example", ".env.sample", ".env.template", "env.example"):
        given = dict(re.findall(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*[\"']?([^\"'\n]*)", text, re.MULTILINE))
        database = next((name for name, value in given.items() if re.match(r"postgres(ql)?(\+\w+)?://", value)), "")
        role = urlsplit(given[database]).username if database else given.get("PGUSER")
        port = given.get("PORT", "").strip()
        yield Found(
            where,
            role=role if role and re.fullmatch(r"\w+", role) else "",
            port=int(port) if port.isdigit() else None,
            variables=tuple(given),
            database_variable=database,
            scheme=urlsplit(given[database]).scheme if database else "",
        )
