"""A fleet whose targets wait in a step until a test lets them go, and what a test does while a fleet is walked."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

import yaml

from runbook_lib.fleet import FleetRun
from runbook_lib.journal import Journal
from runbook_lib.journal.event import Event
from runbook_lib.rehearsal.tenants import Tenants

LONGEST = 50  # seconds that a step waits for a test


def keyed(shops: Tenants) -> None:
    """Have the plan clear row by row, which tries nothing on a clone beforehand."""
    plan = yaml.safe_load((shops.root / "plan.yaml").read_text())
    plan["steps"] = {"clear-backfill": {"strategy": "keyed"}}
    (shops.root / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))


class Gates:
    """Has each target's run begin with a step without batches, which waits until its gate is open."""

    def __init__(self, shops: Tenants, *more: str) -> None:
        """`more`: the names of other steps after those two."""
        self.root, self.names = shops.root, shops.names
        plan = yaml.safe_load((self.root / "plan.yaml").read_text())
        plan["types"]["full"]["steps"] = ["purge-cache", "clear-backfill", *more]
        (self.root / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
        at = self.root / "gate-{target.name}"
        command = f"touch {at}.reached; until test -e {at}.open; do sleep 0.02; done"
        template = yaml.safe_load((self.root / "template.yaml").read_text())
        template["cache_purge"] = {"command": ["sh", "-c", command], "timeout": LONGEST}
        (self.root / "template.yaml").write_text(yaml.safe_dump(template, sort_keys=False))

    def reached(self, *names: str) -> bool:
        """Whether each of these targets waits at its gate, or went through it."""
        return all(self._file(name, "reached").exists() for name in names)

    def open(self, *names: str) -> None:
        """Let these targets go, or all."""
        for name in names or self.names:
            self._file(name, "open").touch()

    def _file(self, name: str, what: str) -> Path:
        return self.root / f"gate-{name}.{what}"


class Acts:
    """Does one thing after another while a fleet is walked, each once its condition holds; a walk's `watch`."""

    def __init__(self, *acts: tuple[Callable[[], object], Callable[[], object]], seconds: float = LONGEST) -> None:
        self.left, self._until = [*acts], monotonic() + seconds

    def __call__(self) -> None:
        while self.left and self.left[0][0]():
            self.left.pop(0)[1]()
        assert not self.left or monotonic() < self._until, f"{len(self.left)} acts are left"


def events(run: FleetRun, name: str = "") -> list[Event]:
    """The events of a target's journal, or of the fleet's own."""
    return [*Journal(run.child(name) / "journal.jsonl" if name else run.journal.path).events()]


def facts(run: FleetRun, kind: str, name: str = "") -> list[dict[str, Any]]:
    """What the events of that kind say, in order."""
    return [dict(event.data) for event in events(run, name) if event.kind == kind]


def words(run: FleetRun) -> dict[str, str]:
    """How each target stands, in a word."""
    return {name: each.word for name, each in run.standings().items()}


def acted(run: FleetRun, name: str) -> tuple[datetime, datetime]:
    """When the first step of a target began, and when its run had an outcome."""
    times = [event.time for event in events(run, name) if event.kind in ("started", "outcome")]
    return times[0], times[-1]


class Exports:
    """Has the plan check another table of each target, which no step changes: what a test spoils it can also fix."""

    CHECK = "exports-empty"

    def __init__(self, shops: Tenants, *, at_the_end: bool = True) -> None:
        """`at_the_end`: whether the check is one of the rollback's own."""
        self.shops = shops
        for name in shops.names:
            shops.execute(name, "CREATE TABLE exports (id bigint PRIMARY KEY)")
        plan = yaml.safe_load((shops.root / "plan.yaml").read_text())
        about = {"title": "No export is left", "sql": "SELECT count(*) FROM exports", "equals": 0}
        plan["checks"][self.CHECK] = {"kind": "sql", **about}
        if at_the_end:
            plan["types"]["full"]["checks"].append(self.CHECK)
        (shops.root / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))

    def spoil(self, *names: str) -> None:
        for name in names:
            self.shops.execute(name, "INSERT INTO exports VALUES (1)")

    def fix(self, *names: str) -> None:
        for name in names:
            self.shops.execute(name, "DELETE FROM exports")
