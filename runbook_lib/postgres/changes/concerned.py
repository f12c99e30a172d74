"""Finds the tables whose rows a reversal needs; copies leave out the rows of all others. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from runbook_lib.config.plan.decide import Decision
from runbook_lib.postgres.changes import reading
from runbook_lib.postgres.changes.net_change import Rename, named_now
from runbook_lib.postgres.changes.objects import Catalog, Object
from runbook_lib.postgres.changes.work import Concerned, Work, is_value


def concerned(work: Work) -> Concerned:
    """Find the tables that a change concerns, by their names before and after it. Pure."""
    reversal, sides = work.reversal, [side for each in work.reversal.changes for side in (each.before, each.after) if side]
    tables = {name for side in sides if (name := _table_of(side))}
    types = {side.address for side in sides if side.kind == "type"} | {
        each.before.address for each in reversal.renames if each.labels
    }
    written = {*reversal.wrote, *reversal.inserted, *reversal.deleted, *reversal.unfilled}
    changed = {(side.parent, side.name) for side in sides if side.kind == "column"}
    referred = set(reversal.inserted)
    for catalog in (work.was, work.made):
        tables |= _of_types(types | tables, catalog) | decided(work.decide, catalog, ())
        for table in catalog.of("table"):
            names = {table.name, _name(named_now(table.address, reversal.renames))}
            if any(work.script.reads(each, None) for each in names) or any(_is_in(each, table) for each in written):
                tables.add(table.address)
        for each in _foreign_keys(catalog):
            parent = each.keeps["references"]
            for column in each.keeps["referred"]:
                if f"{parent}.{column}" in written or (f"table {parent}", column) in changed:
                    referred.add(parent)
    for catalog in (work.was, work.made):
        tables |= with_others(tables, referred, catalog)
    return Concerned(*(_by_both_names(each, reversal.renames) for each in (tables, referred)))


def left_out(
    catalog: Catalog,
    of: Concerned,
    decide: Mapping[str, Decision],
    renamed: Iterable[tuple[str, str]],
    more: Collection[tuple[str, str]],
) -> list[Object]:
    """List the tables of a database whose rows a reversal does not need. Pure.

    Args:
        catalog: The database.
        of: The tables that the change concerns.
        decide: The plan's decisions.
        renamed: The tables that the change renamed, by their addresses before and after.
        more: Other needed tables, by schema and name.
    """
    needed = decided(decide, catalog, renamed) | of.tables
    needed |= {each.address for each in catalog.of("table") if (each.schema, each.name) in more}
    needed = with_others(needed, of.referred, catalog)
    return [each for each in catalog.of("table") if each.address not in needed]


def still_left_out(catalog: Catalog, before: Collection[str]) -> list[Object]:
    """List those of some tables, given by OID, whose rows an undo does not need either. Pure."""
    needed = with_others({each.address for each in catalog.of("table") if each.id not in before}, (), catalog)
    return [each for each in catalog.of("table") if each.address not in needed]


def decided(decide: Mapping[str, Decision], catalog: Catalog, renamed: Iterable[tuple[str, str]]) -> set[str]:
    """Find the tables that a person's SQL reads; it uses the names from before. Pure."""
    values = [value for each in decide.values() for value in (each.value, each.misfits) if value and is_value(value)]
    queries = [each.rows for each in decide.values() if each.rows] + [f"SELECT ({value})" for value in values]
    queries += [f'SELECT FROM "{each.from_}" WHERE {each.match}' for each in decide.values() if each.match]
    script = reading.read(queries, bodies(catalog))
    names = {after: _name(before) for before, after in renamed}
    return {each.address for each in catalog.of("table") if script.reads(names.get(each.address, each.name), None)}


def bodies(catalog: Catalog) -> dict[str, str]:
    """Return the text of each function and view, by its name. Pure."""
    functions = {each.name: str(each.keeps["text"]) for each in catalog.of("function")}
    return functions | {each.name: str(each.definition["text"]) for each in catalog.of("view")}


def with_others(tables: Iterable[str], referred: Collection[str], catalog: Catalog) -> set[str]:
    """Add to tables all that they refer to, what refers to some of them, and all partitions. Pure."""
    needs: dict[str, set[str]] = {}
    found = set(tables)
    for each in _foreign_keys(catalog):
        child = each.parent.removeprefix("table ")
        needs.setdefault(child, set()).add(each.keeps["references"])
        if each.keeps["references"] in referred:
            found.add(child)
    for table in catalog.of("table"):
        for parent in table.definition["inherits"] or []:
            needs.setdefault(table.address, set()).add(parent)
            needs.setdefault(parent, set()).add(table.address)
    left = list(found)
    while left:
        new = needs.get(left.pop(), set()) - found
        found |= new
        left += new
    return found


def _table_of(each: Object) -> str:
    """Name the table whose rows matter if an object changed; "" for none: an index that is not unique fits any rows."""
    if each.kind == "table":
        return each.address
    unique = each.kind == "index" and each.definition["text"].startswith("CREATE UNIQUE ")
    in_a_table = each.kind in ("column", "constraint") or unique
    return each.parent.removeprefix("table ") if in_a_table and each.parent.startswith("table ") else ""


def _of_types(names: set[str], catalog: Catalog) -> set[str]:
    """Find the tables with a column of some types, or of a type built from them."""
    found, new = set[str](), set(names)
    while new:
        found |= new
        new = {each.address for each in catalog.of("type") if not found.isdisjoint(_parts(each))} - found
    columns = [each for each in catalog.of("column") if _plain(each.definition["type"]) in found]
    return {each.parent.removeprefix("table ") for each in columns}


def _parts(kind: Object) -> set[str]:
    of = kind.definition
    return {_plain(each) for each in (of["base"], of["subtype"], *(field for _, field in of["fields"] or [])) if each}


def _plain(kind: str) -> str:
    return kind.partition("(")[0].removesuffix("[]")


def _is_in(written: str, table: Object) -> bool:
    return written == table.address or written.startswith(f"{table.address}.")


def _foreign_keys(catalog: Catalog) -> list[Object]:
    return [each for each in catalog.of("constraint") if each.definition["type"] == "f"]


def _name(address: str) -> str:
    return address.rpartition(".")[2].removeprefix('"').removesuffix('"').replace('""', '"')


def _by_both_names(tables: Iterable[str], renames: Collection[Rename]) -> frozenset[str]:
    return frozenset(name for each in tables for name in (each, named_now(each, renames)))
