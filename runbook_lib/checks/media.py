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

KEPT = "/%:@!$&'()*+,;=~-._"  # what may stand in an address as it is
PORTS = {"http": 80, "https": 443}
REMEDY = "say under page.media_rules how the one becomes the other, or that it is shown as stored ([])"


@dataclass(frozen=True)
class Comparison:
    """What a page shows of what is stored, in a sentence, and what it certainly does not show."""

    status: Status
    text: str
    missing: Sequence[str] = ()


W = TypeVar("W")
O = TypeVar("O")  # noqa: E741


def compared(
    stored: Sequence[str], media: Iterable[Media], page: str, rules: Sequence[Rule] | None, known: Iterable[str] = ()
) -> Comparison:
    """Whether the page shows each stored address; UNKNOWN where those that it shows may be the same in another form.

    Args:
        stored: The addresses, as the database or the API has them; one that several rows have is there several times.
        media: The pictures and videos of the page.
        page: The page's own address.
        rules: The plan's; None where it says nothing.
        known: Further addresses that the page may show.
    """
    look = _Look(page, rules or ())
    shown = [medium for medium in media if any(medium.addresses)]
    if merged := look.merged(stored):
        return _unknown(f"the rules make one of {merged[0]} and {merged[1]}, so which is shown is not known")
    forms = [look.forms(medium) for medium in shown]
    wanted = [look.form(address) for address in stored]
    unpaired, free = paired(wanted, forms, lambda form, of: form in of)
    there = set[str]().union(*forms)
    missing = [stored[n] for n in unpaired if wanted[n] not in there]
    if not unpaired:
        return Comparison(Status.PASS, f"all {len(stored)} media are shown")
    if not missing:
        return _unknown(f"{stored[unpaired[0]]} belongs to several rows, and is not shown as often, which may be meant")
    text = f"{len(missing)} of {len(stored)} media are not shown, such as {missing[0]}"
    failed = Comparison(Status.FAIL, text if shown else f"{text}; no picture or video is on it", missing)
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
        return _unknown(f"{by_address}; it may be shown in another form, as {other} is, which nothing explains; {REMEDY}")
    return failed


def _unknown(text: str) -> Comparison:
    return Comparison(Status.UNKNOWN, text)


def paired(wants: Sequence[W], offers: Sequence[O], fits: Callable[[W, O], bool]) -> tuple[list[int], list[int]]:
    """Give each want an offer of its own that fits, to as many as can have one: the wants and the offers left over. Pure.

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
    """Give each want on the way from `want` to a free offer the next offer on it."""
    number = free
    while True:
        one = came[number]
        before = offer_of.get(one)
        offer_of[one], want_of[number] = number, one
        if one == want or before is None:
            return
        number = before


class _Look:
    """Addresses of one page, each in the form in which it is compared."""

    def __init__(self, page: str, rules: Sequence[Rule]) -> None:
        self._page = page
        self._rules = rules

    def plain(self, address: str) -> str:
        """An address by itself, absolute and spelt in one way."""
        return self.form(address, [])

    def form(self, address: str, rules: Sequence[Rule] | None = None) -> str:
        """An address after the rules, absolute and spelt in one way."""
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
        """An element's address, and those of the same picture in other sizes or formats."""
        return {self.form(address) for address in medium.addresses if address}

    def merged(self, stored: Sequence[str]) -> tuple[str, str] | None:
        """Two stored addresses that only a regular expression makes the same."""
        sure = [rule for rule in self._rules if not isinstance(rule, Replace)]
        seen: dict[str, tuple[str, str]] = {}
        for address in stored:
            before, first = seen.setdefault(self.form(address), (self.form(address, sure), address))
            if before != self.form(address, sure):
                return first, address
        return None

    def likeness(self, address: str, other: Media) -> str:
        """Why another address may be the same medium: by a ready-made rule, or as it bears the name of the file."""
        for each in other.addresses:
            for rule in READY_MADE:
                if rule not in self._rules and self.form(address, [*self._rules, rule]) == self.form(
                    each, [*self._rules, rule]
                ):
                    return f"{_short(each)} is {address} by the rule {{kind: {rule.kind}}}"
            if (words := _words(PurePosixPath(urlsplit(unquote(address)).path).stem)) and words in _words(unquote(each)):
                return f"{_short(each)} bears its name"
        return ""


def _spelt(text: str) -> str:
    """Percent-encoded where it must be, and nowhere else that it need not be."""
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
