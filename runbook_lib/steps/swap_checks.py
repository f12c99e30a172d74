"""What must hold before two databases exchange their names, and what must have come of it."""

from runbook_lib.adapters.postgres.connection import MAINTENANCE, Connection, one
from runbook_lib.adapters.postgres.restore import follow, swap
from runbook_lib.adapters.postgres.restore.classes import CARRIED, Kind
from runbook_lib.adapters.postgres.restore.ledger import compare
from runbook_lib.results import Result, Status
from runbook_lib.steps.exchange import Exchange
from runbook_lib.steps.loss import LEDGER, checksum, count, ledger, numbers, standing, unknown
from runbook_lib.steps.salvaging import foretold


class CheckedExchange(Exchange):
    """An exchange of names with the checks around it, and the choice that they depend on."""

    CHOICES = {
        "SALVAGE": {
            "nothing": "what was written since the backup stays in the old database, and is exported",
            "carry": "what was written since the backup is carried over",
        }
    }

    @property
    def carries(self) -> bool:
        """Whether rows written since the backup are carried over."""
        return self.chosen("SALVAGE") == "carry"

    @property
    def approved_apart(self) -> tuple[Kind, ...]:
        """The kinds of row that are not lost, so that an approval need not bind their number."""
        return CARRIED if self.carries else ()

    def preconditions(self) -> list[Result]:
        """That what takes the place is whole, the loss known, and nobody connected who cannot be sent away. Read-only."""
        found, counted = standing(self.context), ledger(self.context)
        if found.kept:
            return []
        whole = found.restored_from == checksum(self.context, self.context.dump.path)
        missing = unknown(self.context, counted)
        with self.context.postgres.connect(MAINTENANCE) as maintenance:
            strong = [str(s) for s in swap.sessions(maintenance, found.live) if _superuser(maintenance, s.user)]
        return [
            self.result(
                "restored",
                "The whole backup is restored aside",
                Status.PASS if whole else Status.FAIL,
                f"{found.side} is the whole of the backup" if whole else "no side database is the whole of the backup",
            ),
            self.result(
                "loss",
                "The loss is known",
                Status.UNKNOWN if missing else Status.PASS,
                "; ".join(f"{what}: {why}" for what, why in missing.items()) or f"every table is compared: {LEDGER}",
            ),
            self.result(
                "sessions",
                "Our role may end every session there is",
                Status.FAIL if strong else Status.PASS,
                f"superusers' sessions: {'; '.join(strong)}" if strong else "no session of a superuser is there",
            ),
        ]

    def verify(self) -> list[Result]:
        """That all that hangs on the name followed it, and that the loss is the one foretold. Read-only."""
        found = standing(self.context)
        self.settle(found)
        if not found.kept:
            return [self.result("loss", "The loss is the one foretold", Status.UNKNOWN, "no old database is there")]
        with self.context.postgres.connect(MAINTENANCE) as maintenance:
            wanted, is_now = (follow.attributes(maintenance, name) for name in (found.kept, found.live))
        unlike = follow.unlike(wanted, is_now)
        with self.context.postgres.connect(found.kept) as old, self.context.postgres.connect() as new:
            behind = swap.sequences_behind(old, new)
        expected = foretold(self.context)
        kinds = CARRIED if self.carries else tuple(Kind)
        actual = compare(expected, count(self.context, found.kept, found.live), kinds)
        return [
            self.result(
                "attributes",
                "Owner, settings, grants, comment and limit followed the name",
                Status.FAIL if unlike else Status.PASS,
                "; ".join(unlike) or "they are as those of the old database",
            ),
            self.result(
                "sequences",
                "No sequence would issue a value again",
                Status.FAIL if behind else Status.PASS,
                f"behind: {', '.join(behind)}" if behind else "each is as far as in the old database, or further",
            ),
            self.result(
                "loss",
                "The loss is the one foretold",
                Status.FAIL if actual else Status.PASS,
                "; ".join(actual) or f"{'; '.join(f'{n} {what}' for what, n in numbers(expected).items()) or 'no row'}",
            ),
        ]


def _superuser(maintenance: Connection, role: str) -> bool:
    query = """SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s AND rolsuper)
                      AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS it"""
    return bool(one(maintenance, query, [role])["it"])
