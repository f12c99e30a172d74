"""One round of observations: what several checks look at is fetched once."""

import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import urljoin

from psycopg import sql

from runbook_lib.adapters.browser import Destination, Look, Visit
from runbook_lib.adapters.http import Answer
from runbook_lib.adapters.postgres.statements import Taken, taken
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError
from runbook_lib.results import Result, Status

BEFORE = "before"  # the round in which a user visits the page for the first time, to return in later ones
AGAIN = "again"  # the visit of that user


@dataclass
class Round:
    """A round of checks, named ("before", "after" and so on); a service's log counts from its start here, else `since`."""

    context: Context
    name: str
    since: datetime
    verified: Mapping[str, Sequence[Result]] = field(default_factory=dict)  # step -> what its own verification found
    started: Mapping[str, datetime] = field(default_factory=dict)  # service -> when this run last started it

    def result(self, check: str, status: Status, summary: str, **evidence: Any) -> Result:
        """A result of one of the plan's checks."""
        return Result(check, self.context.plan.checks[check].title, status, summary, evidence)

    @property
    def samples(self) -> list[str]:
        """Some values of the plan's sample column, spread over those in which media are expected. Read-only.

        Raises:
            AdapterError: The database cannot be reached, or no row serves; it is not asked again in this round.
        """
        if isinstance(self._sampled, AdapterError):
            raise self._sampled
        return self._sampled

    @cached_property
    def _sampled(self) -> list[str] | AdapterError:
        spec = self.context.plan.api.sample
        query = sql.SQL("""SELECT DISTINCT {column}::text AS value, md5({column}::text) AS spread FROM {table}
        WHERE {having} IS NOT NULL ORDER BY spread LIMIT {count}""").format(
            column=sql.Identifier(spec.column),
            having=sql.Identifier(spec.having),
            table=self.context.backfill.table,
            count=sql.Literal(spec.count),
        )
        try:
            with self.context.postgres.connect() as connection:
                values = [row["value"] for row in connection.execute(query)]
        except AdapterError as error:
            return error
        return values or AdapterError(
            f"No row with {spec.having} is there to look at.", where=self.context.plan.database.table
        )

    @cached_property
    def expected(self) -> dict[str, tuple[int, list[str]]]:
        """How many items each sample whose page is opened holds by the database, and the media that they name. Read-only."""
        plan, shown = self.context.plan, self.samples[: self.context.plan.page.samples]
        query = sql.SQL("""SELECT {c}::text AS sample, count(*) AS items, array_remove(array_agg({media}), NULL) AS media
        FROM {t} WHERE {c}::text = ANY({samples}) GROUP BY 1""").format(
            c=sql.Identifier(plan.api.sample.column),
            media=sql.Identifier(plan.database.backfill.source),
            t=self.context.backfill.table,
            samples=sql.Literal(shown),
        )
        with self.context.postgres.connect() as connection:
            found = {row["sample"]: (row["items"], row["media"]) for row in connection.execute(query)}
        return {sample: found.get(sample, (0, [])) for sample in shown}

    @cached_property
    def answers(self) -> dict[str, Answer]:
        """The API's answer for each sample. Read-only."""
        return {sample: self.ask(sample) for sample in self.samples}

    def ask(self, sample: str, base: str = "", token: str = "") -> Answer:
        """Ask the API for one sample, or another API at `base` that has the same paths. Read-only."""
        api = self.context.plan.api
        url = (base.rstrip("/") or self.context.target.endpoint(api.service)) + api.path.format(sample=sample)
        return self.context.http.get(url, token=token or self.context.token)

    @cached_property
    def statements(self) -> Mapping[str, Taken] | None:
        """What the application's statements had taken when this was first asked; None where nobody measures. Read-only."""
        return taken(self.context.postgres, self.context.target.database.application_role)

    def keep_plot(self, check: str, png: bytes) -> str:
        """Keep a plot of a check's in the evidence; returns its file in the run folder."""
        file = f"evidence/{check}-{self.name}.png"
        self.context.folder.write_image(file, png)
        return file

    def keep_text(self, check: str, text: str) -> str:
        """Keep lines that a check found in the evidence; returns their file in the run folder."""
        file = f"evidence/{check}-{self.name}.txt"
        self.context.folder.write_text(file, text)
        return file

    def begin_visits(self, *, returning: bool = False) -> None:
        """Begin to open the pages, all at once; with `returning`, one of them also as a user who was there before.

        Nothing is begun a second time.
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
        """The page of the first sample as a user sees it who was there before; None where nobody was. Read-only.

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
        profile = self.context.folder.path / ".profile"  # hidden, so no part of what is sealed
        is_first = returning and self.name == BEFORE
        if is_first:
            shutil.rmtree(profile, ignore_errors=True)
        paths = {s: page.path.format(sample=s) for s in self.samples[: page.samples]} | {path: path for path in page.also}
        wanted = {name: Destination(self._url(path), is_first and name == first) for name, path in paths.items()}
        if returning and not is_first and profile.exists():
            wanted[AGAIN] = Destination(self._url(paths[first]), returning=True, pictured=False)
        look = Look(ready=page.ready, items=page.items, media=page.media)
        found = dict(zip(wanted, self.context.browser.visit([*wanted.values()], look, profile), strict=True))
        for name in paths:
            if isinstance(visit := found[name], Visit):
                self.context.folder.write_image(self.screenshot(name), visit.screenshot)
        return found | ({AGAIN: found[first]} if is_first else {})

    def _url(self, path: str) -> str:
        return urljoin(self.context.target.endpoint(self.context.plan.page.service), path)

    def screenshot(self, name: str) -> str:
        """The file of a page's screenshot in the run folder, by its sample or path."""
        return f"evidence/page-{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-') or 'root'}-{self.name}.png"
