"""The checks: each looks at the real system and returns PASS, FAIL or UNKNOWN.

Each kind of check is declared in a module of this package, or in one that another package's entry point names.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property
from typing import Any
from urllib.parse import urljoin

from runbook_lib.browser import Destination, Look, Visit
from runbook_lib.checks.served import Served, all_pages
from runbook_lib.config.kinds import collected
from runbook_lib.config.plan import CheckSpec, Rows
from runbook_lib.context import Context, profiles
from runbook_lib.errors import AdapterError
from runbook_lib.postgres.sampled_rows import SampledRows, rows_of, samples
from runbook_lib.postgres.sessions import Taken, taken
from runbook_lib.postgres.text_settings import identifier
from runbook_lib.redaction import redact
from runbook_lib.results import Found, Result, Status
from runbook_lib.system.http import Answer

BEFORE = "before"  # the round in which a user visits the page for the first time; later rounds repeat the visit
AGAIN = "again"  # that user's repeated visit


@dataclass
class CheckContext:
    """A round of checks, named "before", "after" and so on; a service's log counts from its last start, else `since`."""

    context: Context
    name: str
    since: datetime
    verified: Mapping[str, Sequence[Result]] = field(default_factory=dict)  # step -> the results of its own verification
    started: Mapping[str, datetime] = field(default_factory=dict)  # service -> when this run last started it

    def result(self, check: str, status: Status, summary: str, **evidence: Any) -> Result:
        """Make a result of one of the plan's checks."""
        return Result(check, self.context.plan.checks[check].title, status, summary, evidence)

    @property
    def samples(self) -> list[str]:
        """Some values of the plan's sample column, spread over those with expected media. Read-only.

        Raises:
            AdapterError: The database cannot be reached, or no row fits; the query is not repeated in this round.
        """
        if isinstance(self._sampled, AdapterError):
            raise self._sampled
        return self._sampled

    @cached_property
    def _sampled(self) -> list[str] | AdapterError:
        plan = self.context.plan
        rows = next((rows for rows in (plan.api.rows, plan.page_ and plan.page_.rows) if isinstance(rows, Rows)), None)
        try:
            with self.context.adapters.postgres.connect() as connection:
                values = samples(connection, identifier(plan.database), plan.api.sample, rows)
        except AdapterError as error:
            return error
        return values or AdapterError(
            f"No row fulfils {plan.api.sample.having}, so there is no sample.", where=self.context.plan.database.table
        )

    @cached_property
    def expected(self) -> dict[str, tuple[int, list[str]]]:
        """The number of items in the database for each sample with an opened page, and their media. Read-only.

        Raises:
            AdapterError: The database cannot be reached, or it is unknown which rows are shown.
        """
        plan = self.context.plan
        found = self.rows_of(plan.database.backfill.source, self.samples[: plan.page.samples])
        return {sample: (each.count, each.values) for sample, each in found.items()}

    def rows_of(self, column: str, shown: Sequence[str]) -> Mapping[str, SampledRows]:
        """Return the rows of some samples that the page shows, else all, with a column's values. Read-only.

        Raises:
            AdapterError: The database cannot be reached, or it is unknown which rows are shown.
        """
        plan, rows = self.context.plan, self.context.plan.rows_shown
        condition = rows if isinstance(rows, Rows) else None
        with self.context.adapters.postgres.connect() as connection:
            found = rows_of(connection, identifier(plan.database), plan.api.sample, condition, column, shown)
        if condition and (tied := [sample for sample, each in found.items() if not each.is_certain]):
            raise AdapterError(
                f"The first {condition.limit} rows of {tied[0]} by {condition.order} are ambiguous: some are equal.",
                safe_next="Add the key to rows.order in the plan.",
            )
        return found

    @cached_property
    def answers(self) -> dict[str, Answer]:
        """The API's answer for each sample. Read-only."""
        return {sample: self.ask(sample) for sample in self.samples}

    @cached_property
    def served(self) -> dict[str, Served]:
        """The items that the API serves of each sample, on all pages that the plan can request. Read-only."""
        return {sample: self.read(sample, answer) for sample, answer in self.answers.items()}

    def ask(self, sample: str, base: str = "", token: str = "") -> Answer:
        """Ask the API for one sample, or another API at `base` that has the same paths. Read-only."""
        return self._get(self._api_url(sample, base), token)

    def read(self, sample: str, first: Answer, base: str = "", token: str = "") -> Served:
        """Read the items of a sample's first answer, and of the pages after it. Read-only."""
        api = self.context.plan.api
        return all_pages(first, self._api_url(sample, base), api.items, api.next, lambda url: self._get(url, token))

    def _api_url(self, sample: str, base: str) -> str:
        api = self.context.plan.api
        return (base.rstrip("/") or self.context.target.endpoint(api.service)) + api.path.format(sample=sample)

    def _get(self, url: str, token: str) -> Answer:
        return self.context.adapters.http.get(url, token=token or self.context.adapters.token)

    @cached_property
    def statements(self) -> Mapping[str, Taken] | None:
        """The statement statistics of the application at the first call; None if the server has none. Read-only."""
        return taken(self.context.adapters.postgres, self.context.target.database.application_role)

    def keep_chart(self, check: str, svg: str) -> str:
        """Keep a check's chart in the evidence; returns its file in the run folder."""
        file = f"evidence/{check}-{self.name}.svg"
        self.context.folder.write_text(file, svg)
        return file

    def keep_text(self, check: str, text: str) -> str:
        """Keep lines that a check found in the evidence; returns their file in the run folder."""
        file = f"evidence/{check}-{self.name}.txt"
        self.context.folder.write_text(file, text)
        return file

    def begin_visits(self, *, returning: bool = False) -> None:
        """Begin to open all pages in parallel; with `returning`, one of them also as a returning user.

        A second call begins nothing.
        """
        if "_looking" in self.__dict__:
            return
        pool = ThreadPoolExecutor(1)
        self._looking = pool.submit(self._look, returning)
        pool.shutdown(wait=False)

    @cached_property
    def visits(self) -> dict[str, Visit]:
        """The page of the first samples, opened in a real browser, each with a screenshot in the evidence. Read-only.

        Raises:
            AdapterError: The browser does not start, or the page's server does not answer.
        """
        return {sample: self._seen(sample) for sample in self.samples[: self.context.plan.page.samples]}

    @cached_property
    def other_visits(self) -> dict[str, Visit]:
        """The plan's other pages, each by its path, as `visits`. Read-only.

        Raises:
            AdapterError: The browser does not start, or the page's server does not answer.
        """
        return {path: self._seen(path) for path in self.context.plan.page.also}

    @property
    def visit_again(self) -> Visit | None:
        """The first sample's page as a returning user sees it; None without an earlier visit. Read-only.

        Raises:
            AdapterError: The browser does not start, or the page's server does not answer.
        """
        return self._seen(AGAIN) if AGAIN in self._looked else None

    @property
    def _looked(self) -> dict[str, Visit | AdapterError]:
        if "_looking" not in self.__dict__:
            self.begin_visits()
        return self._looking.result()

    def _seen(self, name: str) -> Visit:
        seen = self._looked[name]
        if isinstance(seen, AdapterError):
            raise seen
        return seen

    def _look(self, returning: bool) -> dict[str, Visit | AdapterError]:
        page, first = self.context.plan.page, self.samples[0]
        folder, is_first = self.context.folder.path, returning and self.name == BEFORE
        profile = profiles.made(folder) if is_first else profiles.of(folder) if returning else None
        paths = {s: page.path.format(sample=s) for s in self.samples[: page.samples]} | {path: path for path in page.also}
        wanted = {name: Destination(self._url(path), is_first and name == first) for name, path in paths.items()}
        if profile and not is_first:
            wanted[AGAIN] = Destination(self._url(paths[first]), returning=True, pictured=False)
        look = Look(ready=page.ready, items=page.items, media=page.media)
        found = dict(zip(wanted, self.context.adapters.browser.visit([*wanted.values()], look, profile), strict=True))
        for name in paths:
            if isinstance(visit := found[name], Visit):
                self.context.folder.write_image(self.screenshot(name), visit.screenshot)
        return found | ({AGAIN: found[first]} if is_first else {})

    def _url(self, path: str) -> str:
        return urljoin(self.context.target.endpoint(self.context.plan.page.service), path)

    def screenshot(self, name: str) -> str:
        """Return the file of a page's screenshot in the run folder, by its sample or path."""
        return f"evidence/page-{re.sub(r'[^A-Za-z0-9]+', '-', redact(name)).strip('-') or 'root'}-{self.name}.png"


LookFunction = Callable[[CheckContext, str], Result]


@dataclass(frozen=True)
class Check:
    """A kind of check: the model of its keys, its function, and when it need not or cannot run."""

    keys: type[CheckSpec]
    look: LookFunction
    does_not_apply: Callable[[Context, str], str]  # why it does not apply here, "" if it does
    is_final: Callable[[Context, str], bool]  # whether it cannot run again, because its means are gone
    beforehand: Callable[[Context, str], Found] | None  # whether it will be able to run, as far as is known now

    def __call__(self, checked: CheckContext, name: str) -> Result:
        """Run the check on the real system. Read-only."""
        return self.look(checked, name)


def check(
    keys: type[CheckSpec],
    *,
    does_not_apply: Callable[[Context, str], str] = lambda context, name: "",
    is_final: Callable[[Context, str], bool] = lambda context, name: False,
    beforehand: Callable[[Context, str], Found] | None = None,
) -> Callable[[LookFunction], Check]:
    """Register a function as the check of the kind with these keys.

    Example:
        >>> class DiskKeys(CheckSpec):
        ...     kind: Literal["disk"]
        ...     area = "Services"
        ...     requires = ()
        >>> @check(DiskKeys)
        ... def has_room(checked: CheckContext, name: str) -> Result: ...
    """
    return lambda look: Check(keys, look, does_not_apply, is_final, beforehand)


@cache
def kinds() -> dict[str, Check]:
    """Return the kinds of check that are installed, by the name that plans give them. Read-only.

    Raises:
        TypeError: Two have one name.
    """
    return collected(
        __name__,
        "runbook_lib.checks",
        lambda module: [(check.keys, check) for check in vars(module).values() if isinstance(check, Check)],
    )


def kind(name: str) -> Check:
    """Return a kind of check. Read-only."""
    return kinds()[name]


def does_not_apply(context: Context, name: str) -> str:
    """Return why a check does not apply here, "" if it does. Read-only."""
    return kind(context.plan.checks[name].kind).does_not_apply(context, name)


def is_final(context: Context, name: str) -> bool:
    """Check whether a check cannot run again, because the end of the run removed its means. Read-only."""
    return kind(context.plan.checks[name].kind).is_final(context, name)


def begin(checks: Iterable[str], checked: CheckContext) -> None:
    """Begin to open the pages that some checks look at, once per round. Read-only."""
    opened = {checked.context.plan.checks[name].opens for name in checks} - {""}
    if opened:
        checked.begin_visits(returning="page and returning page" in opened)


def run(checks: Iterable[str], checked: CheckContext) -> list[Result]:
    """Run the named checks of a plan in one round; a check that cannot run gives UNKNOWN. Read-only.

    The page opens while the other checks run; the check of the server's statements runs last.
    """
    names = list(checks)
    specs = {name: checked.context.plan.checks[name] for name in names}
    if any(spec.last for spec in specs.values()):
        with suppress(AdapterError):  # reported when the check itself runs
            _ = checked.statements
    begin(names, checked)
    order = sorted(names, key=lambda name: (specs[name].last, bool(specs[name].opens)))
    made = {name: _made(name, checked) for name in order}
    return [made[name] for name in names]


def _made(name: str, checked: CheckContext) -> Result:
    spec = checked.context.plan.checks[name]
    try:
        return kind(spec.kind)(checked, name)
    except AdapterError as error:
        return Result(name, spec.title, Status.UNKNOWN, f"could not be checked: {error.what}")
