"""The page shows its texts: those of each row or item, and the constant ones."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from html import unescape
from typing import Literal

from runbook_lib.browser import Visit
from runbook_lib.checks import CheckContext, api, check
from runbook_lib.checks.media import paired
from runbook_lib.checks.page import judged, shown_rows
from runbook_lib.checks.served import texts as texts_of
from runbook_lib.config.plan import CheckSpec
from runbook_lib.config.plan.answer_path import at
from runbook_lib.config.plan.shown import ShownText
from runbook_lib.results import Found, Result, Status

ALIKE = 0.5  # share of common words from which on an item may show a text in another form
SQUEEZED = 8  # letters from which on several words are recognised without spaces between them
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uf900-\ufaff]")  # scripts without spaces
MARKUP = re.compile(r"<[a-zA-Z/!@#][^>]*>|\]\(|&\w+;|:\w+:|\*\*|__|`|\{\{")


class PageTextKeys(CheckSpec):
    """Whether the page shows the texts that the plan names."""

    kind: Literal["page_text"]

    area = "Frontend"
    requires = ("page", "api", "database")
    opens = "page"


@check(PageTextKeys)
def shows_texts(checked: CheckContext, name: str) -> Result:
    """Check that each text under `page.texts` is on the page, for each row or item that it shows. Read-only."""
    named = checked.context.plan.page.texts
    if not named:
        return checked.result(name, Status.UNKNOWN, "the plan names no text under page.texts")
    needs_api = checked.context.plan.rows_shown == "served" or any(each.field for each in named)
    if needs_api and (early := api.unusable(checked, name)) is not None:
        return early
    return judged(checked, name, lambda sample, visit: [_found(checked, each, sample, visit) for each in named])


def _found(checked: CheckContext, named: ShownText, sample: str, visit: Visit) -> Found:
    if named.text is not None:
        is_there = _contains(visit.text, named.text)
        return (Status.PASS, f"“{named.text}” is on it") if is_there else (Status.FAIL, f"“{named.text}” is not on it")
    if named.field is not None:
        served = checked.served[sample]
        if served.unclear:
            return Status.UNKNOWN, served.unclear
        expected = [text for item in served.items[: served.first] for text in texts_of(at(item, named.field))]
        return compared([text for text in expected if text.strip()], visit.texts, visit.text, 0, named.field)
    rows = shown_rows(checked, sample)
    if named.column is None or checked.context.plan.rows_shown == "served":
        return Status.UNKNOWN, "by the plan, the page shows the API's items: name one of their fields instead of a column"
    expected = [text for text in checked.rows_of(named.column, [sample])[sample].values if text.strip()]
    return compared(expected, visit.texts, visit.text, rows.unshown(visit), named.column)


def compared(expected: Sequence[str], items: Sequence[str], page: str, unshown: int, name: str) -> Found:
    """Check that each text is in its own item; UNKNOWN if an item may show it in another form. Pure.

    Args:
        expected: The texts, one for each row.
        items: The texts of the page's items.
        page: All text of the page.
        unshown: How many rows the page may rightly not show.
        name: The column or field of the texts.
    """
    if not expected:
        return Status.UNKNOWN, f"no row has a text in {name}"
    unpaired, free = paired(expected, items, lambda text, item: _contains(item, text))
    if not unpaired:
        return Status.PASS, f"all {len(expected)} texts of {name} are shown"
    missing, others = [expected[n] for n in unpaired], [items[n] for n in free if items[n].strip()]
    text = f"{len(missing)} of {len(expected)} texts of {name} are not shown, such as “{_short(missing[0])}”"
    if len(missing) <= unshown:
        return Status.UNKNOWN, f"{text}; whether the page must show their rows is unknown: set page.rows"
    if any(_contains(page, each) for each in missing):
        return Status.UNKNOWN, f"{text} in their own item, but elsewhere on the page"
    if others and len(missing) == len(expected):
        return Status.UNKNOWN, f"{text}; none is, so the items may show them in another form, such as “{_short(others[0])}”"
    if others and any(MARKUP.search(each) for each in missing):
        return Status.UNKNOWN, f"{text}; it has markup, so it may be shown in another form"
    if like := next((item for each in missing for item in others if _is_like(each, item)), ""):
        return Status.UNKNOWN, f"{text} literally, but maybe in another form, such as “{_short(like)}”"
    return Status.FAIL, text


def _contains(item: str, text: str) -> bool:
    """Check whether an item has all words of a text in sequence, or the text itself if it has no words."""
    words = [found for form in _forms(text) if (found := _words(form))]
    if not words:
        return text.strip() in item
    shown = _words(item)
    return any(form in shown or (_is_known_squeezed(form) and _squeezed(form) in _squeezed(shown)) for form in words)


def _is_known_squeezed(words: str) -> bool:
    """Check whether words are recognised without spaces, for pages with no space between elements."""
    return UNSPACED.search(words) is not None or (len(words.split()) > 1 and len(_squeezed(words)) >= SQUEEZED)


def _is_like(text: str, item: str) -> bool:
    """Check whether an item may show a text in another form: one has half of the other's words."""
    words, shown = set(_words(text).split()), set(_words(item).split())
    return not words or len(words & shown) >= ALIKE * max(1, min(len(words), len(shown)))


def _forms(text: str) -> tuple[str, ...]:
    """Return a text literally, and as a page shows it if it is HTML or Markdown."""
    return text, unescape(re.sub(r"<[^>]*>", " ", text)), re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


@lru_cache(maxsize=4096)
def _words(text: str) -> str:
    """Return the normalised words of a text, without accents, invisible marks, and the scheme of a URL."""
    plain = unicodedata.normalize("NFKD", re.sub(r"https?://(?:www\.)?", " ", text))
    seen = "".join(character for character in plain if unicodedata.category(character) not in ("Mn", "Cf"))
    found = re.findall(r"[^\W_]+", seen.casefold())
    return f" {' '.join(found)} " if found else ""


def _squeezed(words: str) -> str:
    return words.replace(" ", "")


def _short(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= 60 else f"{one[:59]}…"
