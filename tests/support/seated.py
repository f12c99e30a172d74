"""A run with one step of memory, for a kernel in which a person sits."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psycopg import sql

from runbook_lib import run as run_module
from runbook_lib.context import Context
from runbook_lib.context.adapters import Adapters
from runbook_lib.documents import load_plan, load_target
from runbook_lib.errors import AdapterError, Declined
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import replay
from runbook_lib.results import Precondition, Result, Status
from runbook_lib.run import Run
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.by_hand import Instruction, in_words
from runbook_lib.ui import banner, cells

from .free_lease import FreeLease
from .places import PLAN, TARGET

STEP = "revert-frontend"
NAMES = ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON")


class Batches(Step):
    """Works until it is asked to end, or at some statements in one transaction; or fails as often as it is asked to.

    It does not begin while a file is there by which it is held.
    """

    WORKS_IN_PARTS = True

    def __init__(self, context: Context, fails: int, endless: bool, statements: Sequence[str], held_by: Path | None) -> None:
        super().__init__(STEP, context)
        self.held_by = held_by
        self.fails, self.endless, self.effect = fails, endless, Effect.NOT_DONE
        self.statements = statements

    def preview(self) -> Preview:
        return Preview(STEP, self.title, would=["do it"])

    def needs(self) -> list[Precondition]:
        return []

    def by_hand(self, preview: Preview) -> list[Instruction]:
        return [in_words("Do it.")]

    def probe(self) -> Probe:
        while self.held_by and self.held_by.exists():
            time.sleep(0.01)
        return Probe(self.effect, "looked")

    def apply(self) -> Facts:
        with self.control.listening():
            return self._work()

    def _work(self) -> Facts:
        if self.statements:
            with self.context.adapters.postgres.connect() as connection, connection.transaction():
                for statement in self.statements:
                    connection.execute(sql.SQL(statement))  # type: ignore[arg-type]
        self.reporter.progress(10, 100)
        while self.endless:
            time.sleep(0.01)
            if self.control.requested() == "abort":
                raise Declined("Ended between two batches.", state="Half of it is there.")
        if self.fails:
            self.fails -= 1
            raise AdapterError("The tool broke.", state="Half of it is there.", safe_next="Fix it.")
        self.effect = Effect.DONE
        return {"rows": 3}

    def verify(self) -> list[Result]:
        return [self.result("there", "It is there", Status.PASS, "seen")]

    def undo(self) -> Facts:
        return {}


def seated(
    folder: str,
    fails: int = 0,
    endless: bool = False,
    environment: str = "rehearsal",
    statements: Sequence[str] = (),
    held_by: Path | None = None,
) -> Run:
    """A run whose one step is approved, with its banner shown and its cells journaled; statements need a real database."""
    env = {f"REHEARSAL_{name}": f"http://{name.lower()}.test" for name in NAMES}
    plan = load_plan(PLAN)
    target = load_target(TARGET, {**env, "REHEARSAL_APPLICATION_ROLE": "application"})
    target = target.model_copy(update={"environment": environment})
    kind = "full" if statements else "frontend"
    kept = RunFolder.create(Path(folder), "INC-1", kind)
    opened = Journal(kept.journal_path).append(
        "opened", plan=plan.feature, target=target.name, environment=environment, type=kind, option="A",
        operator="Dana", reason="no pictures", incident="INC-1",
    )  # fmt: skip
    twins: Any = {} if statements else {"lease": FreeLease()}
    context = Context(plan, target, kept, Adapters(target, kept, "Dana", **twins), replay([opened]), "Dana")
    steps: dict[str, Any] = {STEP: Batches(context, fails, endless, statements, held_by)}
    run_module.steps_of = lambda context: steps  # type: ignore[assignment]
    run = Run(kept, context)
    digest, _ = run.previews()
    run.approve(digest, "Dana")
    cells.watch(run, banner.begin(run))
    return run
