"""Computes a digest of a database's schema that is the same wherever the same migrations made it."""

import hashlib
import json
from collections.abc import Collection

from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes.kinds import catalog_of
from runbook_lib.postgres.changes.objects import Catalog, Object

OF_THE_PLACE = ("rights", "comment", "other", "extension")  # kinds that differ between installations of one release
OWNER = "owner"


def schema_digest(connection: Connection, histories: Collection[tuple[str, str]] = ()) -> str:
    """Hash all that migrations make, without owners, rights, partitions and migration tools' tables. Read-only.

    Args:
        connection: To the database.
        histories: The tables in which a tool records migrations, each by schema and name.
    """
    catalog = catalog_of(connection)
    left_out = {each.key for each in catalog.of("table") if each.keeps["partition"] or (each.schema, each.name) in histories}
    counted = [each for each in catalog.objects.values() if each.kind not in OF_THE_PLACE]
    lines = sorted(
        json.dumps([each.key, {k: v for k, v in each.definition.items() if k != OWNER}], sort_keys=True)
        for each in counted
        if not _within(each, left_out, catalog)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _within(each: Object, tables: Collection[str], catalog: Catalog) -> bool:
    """Report whether an object is one of some tables, or belongs to one. Pure."""
    if each.key in tables:
        return True
    parent = catalog.get(each.parent)
    return parent is not None and _within(parent, tables, catalog)
