"""A target whose clients connect through a PgBouncer, and runs of one step of it."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.run import Run, engine
from runbook_lib.steps import pausing

from .bare import Bare, Ended
from .pgbouncer import PgBouncer

STEPS = {
    "swap": ("A", "clear-backfill", "STRATEGY=swap"),
    "quarantine": ("B", "remove-columns", "REMOVAL=quarantine"),
    "drop": ("B", "remove-columns", "REMOVAL=drop"),
    "exchange": ("C", "swap-database", ""),
    "fence": ("A", "fence", ""),
}


@dataclass
class Behind:
    """A target whose application connects through a PgBouncer that the target names."""

    target: Bare
    bouncer: PgBouncer
    services: Path

    def name(self, user: str = "", **keys: object) -> None:
        """Have the target name it as its pooler, by the console of a user."""
        service = self.bouncer.service(self.services, f"console{user}", *([user] if user else []))
        self.target.target["pooler"] = {"service": service, "databases": [self.target.database.name], **keys}

    def planned(self, what: str) -> Ended:
        """`runbook plan` of a rollback of that step, and of those that it needs."""
        option, step, choice = STEPS[what]
        self.target.plan["backfills"][0]["touch_column"] = None
        self.target.plan["steps"]["clear-backfill"]["live"] = True
        self.target.plan["steps"]["fence"] = {"kind": "fence"}
        before = ["stop-services", *(["restore-staging"] if what == "exchange" else [])]
        self.target.steps(*before, step)
        if what == "exchange":
            self.target.backed_up()
        return self.target.planned(option, choice)

    def begun(self, what: str) -> Run:
        """A run of which all is done but the last step, whose preview is approved."""
        planned = self.planned(what)
        assert planned.exit_code == 0, planned.text
        run = self.target.opened()
        run.approve(self.target.digest, "tester")
        for name in [*run.steps][:-1]:
            engine.apply(run, name)
        if what == "exchange":  # the loss is counted by now
            run.approve(run.previews()[0], "tester")
        return run

    def journaled(self, kind: str) -> list[dict[str, Any]]:
        return [event.data for event in self.target.opened().journal.events() if event.kind == kind]

    def pending(self) -> list[str]:
        return list(self.target.opened().state.pending)


def last(run: Run) -> str:
    return [*run.steps][-1]


def killed(action: Callable[[], object], module: Any, name: str) -> None:
    """Have a process of its own die, by SIGKILL, where it comes to a function while clients of poolers wait."""

    def child() -> None:
        real, pause = getattr(module, name), pausing.pause

        def paused(*given: Any) -> None:
            pause(*given)
            setattr(module, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))

        pausing.pause = paused  # type: ignore[assignment]
        action()
        del real

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
