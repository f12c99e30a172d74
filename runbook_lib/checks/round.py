"""One round of observations: what several checks look at is fetched once."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import urljoin

from psycopg import sql

from runbook_lib.adapters.browser import Visit
from runbook_lib.adapters.http import Answer
from runbook_lib.adapters.postgres.statements import Taken, taken
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError
from runbook_lib.results import Result, Status


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

    @cached_property
    def samples(self) -> list[str]:
        """Some values of the plan's sample column, spread over those in which media are expected. Read-only.

        Raises:
            AdapterError: The database cannot be reached, or no row serves.
        """
        spec = self.context.plan.api.sample
        query = sql.SQL("""SELECT DISTINCT {column}::text AS value, md5({column}::text) AS spread FROM {table}
        WHERE {having} IS NOT NULL ORDER BY spread LIMIT {count}""").format(
            column=sql.Identifier(spec.column),
            having=sql.Identifier(spec.having),
            table=self.context.backfill.table,
            count=sql.Literal(spec.count),
        )
        with self.context.postgres.connect() as connection:
            values = [row["value"] for row in connection.execute(query)]
        if not values:
            raise AdapterError(f"No row with {spec.having} is there to look at.", where=self.context.plan.database.table)
        return values

    def expected(self, sample: str) -> tuple[int, list[str]]:
        """How many items a sample holds by the database, and the media that they name. Read-only."""
        plan = self.context.plan
        query = sql.SQL(
            "SELECT count(*) AS items, array_remove(array_agg({media}), NULL) AS media FROM {t} WHERE {c}::text = {v}"
        )
        with self.context.postgres.connect() as connection:
            row = connection.execute(
                query.format(
                    media=sql.Identifier(plan.database.backfill.source),
                    t=self.context.backfill.table,
                    c=sql.Identifier(plan.api.sample.column),
                    v=sql.Literal(sample),
                )
            ).fetchone()
        assert row is not None
        return row["items"], row["media"]

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

    def begin_visits(self) -> None:
        """Begin to open the pages; `visits` waits for them."""
        self._visiting = ThreadPoolExecutor(1)
        self._visits = self._visiting.submit(self._visited)

    @cached_property
    def visits(self) -> dict[str, Visit]:
        """The page of the first samples, opened in a real browser, each with a screenshot in the evidence. Read-only.

        Raises:
            AdapterError: The browser does not start, or the page's server does not answer.
        """
        if "_visits" not in self.__dict__:
            self.begin_visits()
        try:
            return self._visits.result()
        finally:
            self._visiting.shutdown()

    @cached_property
    def other_visits(self) -> dict[str, Visit]:
        """The plan's other pages, each by its path, as `visits`. Read-only.

        Raises:
            AdapterError: The browser does not start, or the page's server does not answer.
        """
        _ = self.visits
        return self._others

    def _visited(self) -> dict[str, Visit]:
        page = self.context.plan.page
        found = {sample: self._visit(sample, page.path.format(sample=sample)) for sample in self.samples[: page.samples]}
        self._others = {path: self._visit(path, path) for path in page.also}
        return found

    def _visit(self, name: str, path: str) -> Visit:
        page = self.context.plan.page
        url = urljoin(self.context.target.endpoint(page.service), path)
        visit = self.context.browser.visit(url, ready=page.ready, items=page.items, media=page.media)
        self.context.folder.write_image(self.screenshot(name), visit.screenshot)
        return visit

    def screenshot(self, name: str) -> str:
        """The file of a page's screenshot in the run folder, by its sample or path."""
        return f"evidence/page-{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-') or 'root'}-{self.name}.png"
