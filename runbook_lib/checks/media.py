"""Whether a page shows the media that are stored, by the plan's rules for their addresses. Pure."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar
from urllib.parse import quote, unquote, urljoin, urlsplit

from runbook_lib.browser import Media
from runbook_lib.config.plan.media_rules import READY_MADE, Replace, Rule
from runbook_lib.results import Status

KEPT = "/%:@!$&'()*+,;=~-._"  # characters that need no encoding in an address
PORTS = {"http": 80, "https": 443}
REMEDY = "add a rule for this to page.media_rules, or set it to [] if media are shown as stored"


@dataclass(frozen=True)
class Comparison:
    """The result of comparing a page with the stored media, and those that are certainly missing."""

    status: Status
    text: str
    missing: Sequence[str] = ()


W = TypeVar("W")
O = TypeVar("O")  # noqa: E741


def compared(
    stored: Sequence[str], media: Iterable[Media], page: str, rules: Sequence[Rule] | None, known: Iterable[str] = ()
) -> Comparison:
    """Check that the page shows each stored address; UNKNOWN if a shown one may be the same in another form.

    Args:
        stored: The addresses from the database or the API; an address of several rows is listed several times.
        media: The pictures and videos of the page.
        page: The page's own address.
        rules: The plan's rules; None if it has none.
        known: Further addresses that the page may show.
    """
    look = _Look(page, rules or ())
    shown = [medium for medium in media if any(medium.addresses)]
    if merged := look.merged(stored):
        return _unknown(f"the rules map {merged[0]} and {merged[1]} to the same address, so it is unknown which is shown")
    forms = [look.forms(medium) for medium in shown]
    wanted = [look.form(address) for address in stored]
    unpaired, free = paired(wanted, forms, lambda form, of: form in of)
    there = set[str]().union(*forms)
    missing = [stored[n] for n in unpaired if wanted[n] not in there]
    if not unpaired:
        return Comparison(Status.PASS, f"all {len(stored)} media are shown")
    if not missing:
        return _unknown(f"{stored[unpaired[0]]} belongs to several rows, but is shown fewer times, which may be intended")
    text = f"{len(missing)} of {len(stored)} media are not shown, such as {missing[0]}"
    failed = Comparison(Status.FAIL, text if shown else f"{text}; the page has no picture or video", missing)
    explained = {*wanted, *map(look.form, known)}
    others = [shown[n] for n in free if not forms[n] & explained]
    if not others or (rules is not None and not rules):
        return failed
    by_address = f"{text}, by its address"
    if like := next(filter(None, (look.likeness(address, other) for address in missing for other in others)), ""):
        return _unknown(f"{by_address}, but {like}; {REMEDY}")
    is_by_rule = any(f in explained for m in shown for a in m.addresses if (f := look.form(a)) != look.plain(a))
    strange = [m for m in others if not {_place(f) for f in look.forms(m)} & {_place(f) for f in explained}]
    if not there & explained or (strange and not is_by_rule):
        other = _short((strange or others)[0].url)
        return _unknown(f"{by_address}; it may be shown in another form, such as the unexplained {other}; {REMEDY}")
    return failed


def _unknown(text: str) -> Comparison:
    return Comparison(Status.UNKNOWN, text)


def paired(wants: Sequence[W], offers: Sequence[O], fits: Callable[[W, O], bool]) -> tuple[list[int], list[int]]:
    """Match each want with a fitting offer of its own, and return the wants and offers left over. Pure.

    A maximum matching, found by augmenting paths.
    """
    fitting = [[number for number, offer in enumerate(offers) if fits(want, offer)] for want in wants]
    offer_of: dict[int, int] = {}
    want_of: dict[int, int] = {}
    for want in range(len(wants)):
        came, waiting = dict[int, int](), [want]
        while waiting and want not in offer_of:
            one = waiting.pop(0)
            for number in fitting[one]:
                if number in came:
                    continue
                came[number] = one
                if number in want_of:
                    waiting.append(want_of[number])
                    continue
                _moved(number, came, want, offer_of, want_of)
                break
    left = [want for want in range(len(wants)) if want not in offer_of]
    return left, [number for number in range(len(offers)) if number not in want_of]


def _moved(free: int, came: dict[int, int], want: int, offer_of: dict[int, int], want_of: dict[int, int]) -> None:
    """Move each want on the path from `want` to a free offer to its next offer."""
    number = free
    while True:
        one = came[number]
        before = offer_of.get(one)
        offer_of[one], want_of[number] = number, one
        if one == want or before is None:
            return
        number = before


class _Look:
    """Normalises the addresses of one page for comparison."""

    def __init__(self, page: str, rules: Sequence[Rule]) -> None:
        self._page = page
        self._rules = rules

    def plain(self, address: str) -> str:
        """Return an address as absolute and normalised, without the rules."""
        return self.form(address, [])

    def form(self, address: str, rules: Sequence[Rule] | None = None) -> str:
        """Return an address after the rules, absolute and normalised."""
        for rule in self._rules if rules is None else rules:
            address = rule.applied(address)
        try:
            parts = urlsplit(urljoin(self._page, address.strip()))
            port = parts.port
        except ValueError:
            return address
        if not parts.hostname:
            return address
        at = parts.hostname if port in (None, PORTS.get(parts.scheme)) else f"{parts.hostname}:{port}"
        query = f"?{_spelt(parts.query)}" if parts.query else ""
        return f"{parts.scheme}://{at}{_spelt(parts.path) or '/'}{query}"

    def forms(self, medium: Media) -> set[str]:
        """Return an element's address, and those of the same picture in other sizes or formats."""
        return {self.form(address) for address in medium.addresses if address}

    def merged(self, stored: Sequence[str]) -> tuple[str, str] | None:
        """Return two stored addresses that only a regular expression makes equal."""
        sure = [rule for rule in self._rules if not isinstance(rule, Replace)]
        seen: dict[str, tuple[str, str]] = {}
        for address in stored:
            before, first = seen.setdefault(self.form(address), (self.form(address, sure), address))
            if before != self.form(address, sure):
                return first, address
        return None

    def likeness(self, address: str, other: Media) -> str:
        """Return why another address may be the same medium: by a standard rule, or by the same file name."""
        for each in other.addresses:
            for rule in READY_MADE:
                if rule not in self._rules and self.form(address, [*self._rules, rule]) == self.form(
                    each, [*self._rules, rule]
                ):
                    return f"{_short(each)} equals {address} under the rule {{kind: {rule.kind}}}"
            if (words := _words(PurePosixPath(urlsplit(unquote(address)).path).stem)) and words in _words(unquote(each)):
                return f"{_short(each)} has the same file name"
        return ""


def _spelt(text: str) -> str:
    """Return a text with percent-encoding only where necessary."""
    found = re.sub(r"%[0-9A-Fa-f]{2}", lambda match: _decoded(match[0]), text)
    return quote(found, safe=KEPT + "?")


def _decoded(escape: str) -> str:
    character = unquote(escape)
    return character if re.fullmatch(r"[A-Za-z0-9._~-]", character) else escape.upper()


def _words(text: str) -> str:
    found = re.findall(r"[^\W_]+", text.lower())
    return f" {' '.join(found)} " if found else ""


def _place(form: str) -> str:
    return form.partition("?")[0].rpartition("/")[0]


def _short(address: str) -> str:
    return address if len(address) <= 120 else f"{address[:119]}…"
