"""What `extends: standard` brings to a plan: filled in with what the plan has, overridden by what it says. Pure."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from runbook_lib.config.plan.backfills import path_of, place_of
from runbook_lib.errors import ParametersError

TABLES = ("steps", "checks", "types", "troubles")
LISTS = {
    "types": {"steps": "steps", "checks": "checks", "escalates_on": "checks"},
    "troubles": {"signs": "checks", "passing": "checks"},
}
OF_ROWS = ("failing", "passing", "findings", "confirmed_by")
EACH = ("repository", "later")  # a placeholder for each repository in turn
CLEAR = "clear-backfill"
PLACEHOLDER = re.compile(r"\{([\w.]+)(?:\|(name|capital))?\}")

Data = dict[str, Any]
Values = Mapping[str, Any]
Named = tuple[str, str]  # a table and a name in it


class _Absent(Exception):
    """A placeholder names what the plan does not have."""


@dataclass(frozen=True)
class Extended:
    """A plan over the standard one, and what of that goes where it does not fit the plan, which does not name it itself.

    Those are steps and checks, and the types that say `if_compatible`; others go with their last option.
    """

    data: Data
    may_go: frozenset[Named]
    only_with_options: frozenset[str]


def extended(plan: Data, standard: Data, where: str) -> Extended:
    """Put the standard plan under a plan: filled in, overridden key by key, without what the plan leaves out. Pure.

    Raises:
        ParametersError: The plan leaves out a name that neither has.
    """
    values = _values(plan)
    under = {key: _table(each, values) if key in TABLES else _filled(each, values) for key, each in standard.items()}
    _clear_each(under, plan)
    with_others = [
        (table, name, _list(entry.pop("only_with", []))) for table in TABLES for name, entry in under[table].items()
    ]
    if_compatible = {("types", name) for name, kind in under["types"].items() if kind.pop("if_compatible", False)}
    with_options = frozenset(name for name, kind in under["types"].items() if kind.pop("only_with_options", False))
    absent = [(table, name) for table, name, parts in with_others if parts and not values.keys() & set(parts)]
    under = left_out(under, absent + [(table, name) for table, name in _references(under) if name not in under[table]])
    under["escalation"] = [name for name in under["escalation"] if not PLACEHOLDER.search(name)]
    own = {key: value for key, value in plan.items() if key not in ("extends", "without")}
    data = _merged(under, own)
    _require_known(plan.get("without", []), [name for _, name in _defined(data)], where)
    may_go = {(table, name) for table, name in _defined(under) if table in ("steps", "checks")} | if_compatible
    without = [(table, name) for table in TABLES for name in plan.get("without", [])]
    brought = frozenset(may_go) - {*_defined(own), *_references(own)}
    return Extended(left_out(data, without, with_options), brought, with_options)


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _require_known(names: Iterable[str], known: Collection[str], where: str) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 3) or sorted(known)
            raise ParametersError(
                f"`without` names {name!r}, which is no step, check, type or trouble of this plan.",
                where=where,
                state="Nothing was touched.",
                safe_next=f"Take it out, or name one of: {', '.join(near)}.",
            )


def left_out(plan: Data, names: Iterable[Named], only_with_options: Collection[str] = ()) -> Data:
    """Leave names out of a plan, wherever they are listed, and then what cannot be without them. Pure.

    A reference to a type that goes becomes one to the type that is executed in its place. The types `only_with_options` go
    with their last option.
    """
    gone = set(names)
    while True:
        left = _without(plan, gone)
        pointless = {*_pointless(plan, left, gone, only_with_options)}
        if not pointless:
            return left
        gone |= pointless


def _without(plan: Data, gone: set[Named]) -> Data:
    """Return a plan without some names, an option without the steps that were its own."""
    left = deepcopy(plan)
    for table, name in gone:
        left.get(table, {}).pop(name, None)
    for table, keys in LISTS.items():
        for _, entry in _entries(left, table):
            entry |= {key: [n for n in entry[key] if (of, n) not in gone] for key, of in keys.items() if key in entry}
    lost = {option for table, name in gone if table == "steps" for option in _sole_option(plan, name)}
    for _, kind in _entries(left, "types"):
        kept = {option for name in kind.get("steps", []) for option in _sole_option(left, name)}
        if "options" in kind:
            kind["options"] = {name: text for name, text in kind["options"].items() if name in kept or name not in lost}
        if lost and "steps" in kind:
            kind["steps"] = [n for n in kind["steps"] if not (of := _options(left, n)) or {*of} & {*kind.get("options", ())}]
        if ("types", kind.get("escalates_to")) in gone or kind.get("escalates_on") == []:
            kind |= {"escalates_to": None, "escalates_on": []}
    offered = {option for _, kind in _entries(left, "types") for option in kind.get("options", {})}
    for name, step in _entries(left, "steps"):
        if lost.intersection(_options(left, name)):
            step["options"] = [option for option in step["options"] if option in offered]
    left["decision_matrix"] = [row for each in plan.get("decision_matrix", []) if (row := _row(plan, each, gone))]
    left["escalation"] = [name for name in plan.get("escalation", []) if ("types", name) not in gone]
    return left


def _row(plan: Data, row: Data, gone: set[Named]) -> Data | None:
    """A row of the matrix without some names; None where its type, its own check or all that confirms it is among them."""
    of = row.get("type")
    for _ in plan.get("types", {}):
        if ("types", of) in gone and of in plan["types"]:
            of = plan["types"][of].get("carried_out_as")
    left = {key: [n for n in row[key] if ("checks", n) not in gone] for key in OF_ROWS if key in row}
    if ("types", of) in gone or ("type" in row and of is None) or left.get("failing", [])[:1] != row.get("failing", [])[:1]:
        return None
    return None if row.get("confirmed_by") and not left["confirmed_by"] else {**row, **left, **({"type": of} if of else {})}


def _pointless(plan: Data, left: Data, gone: set[Named], only_with_options: Collection[str]) -> Iterator[Named]:
    """Return what has nothing left to do once some names are gone."""
    for name, kind in _entries(left, "types"):
        walks_nothing = plan["types"][name].get("steps") and not kind["steps"]
        is_no_option = name in only_with_options and not kind.get("options")
        if walks_nothing or is_no_option or ("types", kind.get("carried_out_as")) in gone:
            yield "types", name
    for name, trouble in _entries(left, "troubles"):
        if ("types", trouble.get("fix")) in gone or (plan["troubles"][name].get("signs") and not trouble["signs"]):
            yield "troubles", name
    for name in left.get("steps", {}):
        if _options(plan, name) and not _options(left, name):
            yield "steps", name


def _entries(plan: Data, table: str) -> list[tuple[str, Data]]:
    return list(plan.get(table, {}).items())


def _options(plan: Data, step: str) -> list[str]:
    options = plan.get("steps", {}).get(step, {}).get("options", [])
    return [option for option in options if isinstance(option, str)] if isinstance(options, list) else []


def _sole_option(plan: Data, step: str) -> list[str]:
    """Return the option that a step belongs to alone."""
    options = _options(plan, step)
    return options if len(options) == 1 else []


def _defined(plan: Data) -> set[Named]:
    return {(table, name) for table in TABLES for name in plan.get(table, {})}


def _references(plan: Data) -> Iterator[Named]:
    """Return every name that types, matrix and troubles mention, with its table."""
    for table, keys in LISTS.items():
        for _, entry in _entries(plan, table):
            yield from ((of, name) for key, of in keys.items() for name in entry.get(key, []))
    for _, kind in _entries(plan, "types"):
        yield from (("types", kind[key]) for key in ("escalates_to", "carried_out_as") if kind.get(key))
    yield from (("types", each["fix"]) for _, each in _entries(plan, "troubles") if "fix" in each)
    for row in plan.get("decision_matrix", []):
        yield from (("checks", name) for key in OF_ROWS for name in row.get(key, []))
        yield from [("types", row["type"])] if "type" in row else []


def _merged(under: Any, over: Any) -> Any:
    """Mappings name by name, where `over` does not say a kind of its own; all else as `over` has it."""
    if not isinstance(under, dict) or not isinstance(over, dict) or "kind" in over:
        return over
    return under | {name: _merged(under[name], value) if name in under else value for name, value in over.items()}


def _table(table: Data, values: Values) -> Data:
    """Return a table with the plan's own values, an entry repeated where it names each repository in turn."""
    found = {}
    for name, entry in table.items():
        for each in _in_turn(name, values):
            with suppress(_Absent):
                found[_filled(name, each)] = _filled(entry, each)
    return found


def _filled(node: Any, values: Values) -> Any:
    """A node with its placeholders replaced; in a list, a name with one of what is absent stays, which nothing defines."""
    if isinstance(node, dict):
        return {key: _filled(value, values) for key, value in node.items()}
    if isinstance(node, list):
        found: list[Any] = []
        for item in node:
            for each in _in_turn(item, values):
                try:
                    found += _filled(item, each) if isinstance(item, list) else [_filled(item, each)]
                except _Absent:
                    found += [item] if isinstance(item, str) else []
        return found
    if not isinstance(node, str):
        return node
    whole = PLACEHOLDER.fullmatch(node)
    return _value(whole, values) if whole else PLACEHOLDER.sub(lambda match: str(_value(match, values)), node)


def _value(match: re.Match[str], values: Values) -> Any:
    value = values.get(match[1])
    if value in (None, "", []):
        raise _Absent
    match match[2]:
        case "name":
            return _named(value)
        case "capital":
            return str(value)[:1].upper() + str(value)[1:]
    return value


def _named(value: object) -> str:
    """Return a value as a name: orderTotal as order-total."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "-", str(value)).strip("-").lower()


def _in_turn(node: Any, values: Values) -> list[Values]:
    """Return the values for a node, once for each repository where it names one in turn."""
    named = {match[1].partition(".")[0] for match in PLACEHOLDER.finditer(str(node))}
    for key in EACH:
        if key in named and key not in values:
            return [{**values, key: name} for name in values[f"each {key}"]]
    return [values]


def _values(plan: Data) -> Values:
    """Return the plan's own values by their keys, and what follows from them."""
    found = dict(_flat(plan))
    repositories, services = list(plan.get("repositories", {})), plan.get("services", [])
    first = found.get("migration.repository", *repositories[:1]) if repositories else None
    built: dict[str, list[str]] = {name: [] for name in repositories}
    for service in services:
        of = next((name for name in repositories if service in found.get(f"repositories.{name}.paths", {})), service)
        built.setdefault(of if of in built else str(first), []).append(service)
    later = [name for name in repositories if name != first]
    alone = [name for name in repositories if built[name] == [found.get("page.service")]]
    source = next((each["source"] for each in _backfills(plan) if each.get("source") and _of_table(each, plan)), None)
    return found | {
        "backfill.source": source,
        **({"backfills": True} if _backfills(plan) else {}),
        "each repository": repositories,
        "each later": later,
        "first": first,
        "first.services": built.get(str(first)),
        "started": [service for name in [first, *later] for service in built.get(name, [])] if first else services,
        "page.repository": next(iter(alone), None),
    }


def _backfills(plan: Data) -> list[Data]:
    """Return the plan's backfills that name their columns, the one that an earlier plan has under `database` among them."""
    database = plan.get("database") or {}
    old, listed = database.get("backfill"), plan.get("backfills") or []
    if isinstance(old, dict) and isinstance(old.get("column"), str):
        names = [str(database.get(key)) for key in ("schema", "table")]
        listed = [{**old, "column": path_of(*names, old["column"])}, *listed]
    return [each for each in listed if isinstance(each, dict) and isinstance(each.get("column"), str)]


def _of_table(backfill: Data, plan: Data) -> bool:
    """Check whether a backfill is on the plan's table."""
    database = plan.get("database") or {}
    place = place_of(backfill["column"])
    return (place.schema_, place.table) == (database.get("schema"), database.get("table"))


def _clear_each(under: Data, plan: Data) -> None:
    """Give each of the plan's backfills a step, in the options in which it is cleared by itself."""
    options = {each["column"]: _options_of(each, plan) for each in _backfills(plan)}
    if not options:
        return
    sole = under["steps"].pop(CLEAR)
    names = {column: f"clear-{_named(column)}" if len(options) > 1 else CLEAR for column in options}
    for column, name in names.items():
        said = {"title": f"Clear what the backfill wrote into {column}", "backfill": column} if len(options) > 1 else {}
        under["steps"][name] = {**sole, "options": options[column], **said}
    for kind in under["types"].values():
        kind["steps"] = [n for name in kind.get("steps", []) for n in (names.values() if name == CLEAR else [name])]
        if not any("A" in each for each in options.values()):
            kind["options"] = {name: text for name, text in kind.get("options", {}).items() if name != "A"}


def _options_of(backfill: Data, plan: Data) -> list[str]:
    """The options that clear a backfill: A alone where B takes its column, else all in which code from before then runs."""
    if _of_table(backfill, plan) and place_of(backfill["column"]).column in plan["database"].get("columns", {}):
        return ["A"]
    one_schema = not plan.keys() & {"database", "draft", "migration"}
    schema_stays = {"code": "before", "schema": "feature", "data": "before"} in plan.get("compatibility", [])
    return [*(["A"] if one_schema or schema_stays else []), "B", "D"]


def _flat(node: Data, key: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        yield f"{key}{name}", value
        if isinstance(value, dict):
            yield from _flat(value, f"{key}{name}.")
