"""Rolls each case of the corpus back and judges the database that is left, by check.py; the last line sums it up.

judge.py [CASE …]     all cases, where none is named; exit status 1 where one is wrong or too few are right
"""

import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import check
import yaml

from runbook_lib.config.plan import Decision
from runbook_lib.errors import RunbookError
from runbook_lib.rehearsal.migration import Count, Rehearsal, rehearse
from runbook_lib.rehearsal.postgres import Server, embedded_server

RIGHT, RIGHTLY_REFUSED, REFUSED, WRONG = "right", "rightly refused", "refused though a rollback is right", "wrong"
DECISIONS = Path(__file__).parent / "decisions.yaml"
AT_LEAST = 44  # of the cases that can be rolled back


@dataclass
class Judged:
    """What a case came to, and why where it is not right."""

    case: str
    verdict: str
    lines: list[str]
    seconds: float = 0


def decisions(case: str) -> dict[str, Decision]:
    """What a person decides of a case."""
    kept = yaml.safe_load(DECISIONS.read_text()).get(case[:2], {})
    return {name: Decision.model_validate(decision) for name, decision in kept.items()}


def judged(server: Server, name: str) -> Judged:
    """Roll a case back in a database of its own on a server, and judge what is left there."""
    case, database = check.Case(name), f"corpus_{name[:2]}"
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {database} TEMPLATE template0")
    dsn = server.conninfo(dbname=database)
    try:
        scripts = case.folder / "before.sql", [case.folder / "up.sql"], case.folder / "use.sql"
        found = rehearse(*scripts, dsn, lambda _: None, decisions(name))
        verdict, lines = _judged(case, found, dsn)
    except (RunbookError, AssertionError) as error:
        return Judged(case.name, WRONG, [repr(error)])
    finally:
        with server.connect() as connection:
            connection.execute(f"DROP DATABASE {database} WITH (FORCE)")
    return Judged(case.name, verdict, lines, found.seconds)


def _judged(case: check.Case, found: Rehearsal, dsn: str) -> tuple[str, list[str]]:
    with check.connect(dsn) as connection:
        lines = check.check(case, connection, dsn, refused=found.outcome == "refused")
    if lines:
        return WRONG, [found.outcome, *lines]
    if found.outcome == "refused":
        named = {each.object for each in found.refused_because}
        rows = {row for each in found.refused_because for row in each.rows}
        wanted = case.expect.get("refuse") or case.expect.get("or_refuse")
        lines = [f"not named: {name}" for name in wanted or () if name not in named]
        lines += [f"row not named: {row}" for row in case.expect.get("about", ()) if row not in rows]
        if lines:
            return WRONG, lines
        return (RIGHTLY_REFUSED, []) if wanted else (REFUSED, [f"{e.object}: {e.why}" for e in found.refused_because])
    if case.expect["verdict"] == "refuse":
        return WRONG, [f"{found.outcome}, where it is to be refused"]
    lines = _uncounted("lost", case, found.lost) + _uncounted("unfilled", case, found.unfilled)
    lines += [] if found.outcome == "verified" else [f"{found.outcome}: {', '.join(found.undo_differences)}"]
    return (WRONG, lines) if lines else (RIGHT, [] if found.redeploys else ["the migration does not run again"])


def _uncounted(key: str, case: check.Case, found: list[Count]) -> list[str]:
    wanted = {item["object"]: int(item["count"]) for item in case.expect.get(key, [])}
    left = list(found)
    lines = []
    for thing, count in wanted.items():
        match = next((each for each in left if each.count == count and each.object in thing), None)
        if match is None:
            lines.append(f"{key}: {thing} is {count}, not among {found}")
        else:
            left.remove(match)
    return lines + [f"{key}: {each} is too much" for each in left]


def main() -> int:
    names = [check.Case(name).name for name in sys.argv[1:]] or check.names()
    with embedded_server() as server, ProcessPoolExecutor(2) as pool:
        results = []
        for each in pool.map(partial(judged, server), names):
            print(f"{each.verdict:35} {each.seconds:5.1f} s  {each.case}", *each.lines, sep="\n        ", flush=True)
            results.append(each)
    counts = Counter(each.verdict for each in results)
    print(", ".join(f"{counts[verdict]} {verdict}" for verdict in (RIGHT, RIGHTLY_REFUSED, REFUSED, WRONG)))
    return 1 if counts[WRONG] or (len(names) == len(check.names()) and counts[RIGHT] < AT_LEAST) else 0


if __name__ == "__main__":
    sys.exit(main())
