"""The templates of the archive and how they are filled in."""

from datetime import datetime
from typing import Any

from runbook_lib.config.plan import Plan
from runbook_lib.journal.event import clock, in_words
from runbook_lib.report.facts import title


def render(template: str, **values: Any) -> str:
    """The text of a template with `values` filled in, escaped where it is HTML. Read-only."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("runbook_lib.report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(clock=clock, facts=in_words, moment=_moment, line=_line, title_in=_title_in)
    return environment.get_template(template).render(**values)


def _title_in(name: str, plan: Plan) -> str:
    return title(plan, name)


def _moment(value: str | datetime | None, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    if value is None:
        return "not yet"
    return (datetime.fromisoformat(value) if isinstance(value, str) else value).strftime(form)


def _line(value: Any) -> str:
    """One line of Markdown in which the value's own markup does not count."""
    return " ".join(str(value).split()).replace("<", "&lt;")
