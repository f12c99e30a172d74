"""The kinds of rule by which the address of a picture on a page is turned into the one that is stored. Pure."""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, parse_qs, urlsplit, urlunsplit

from pydantic import Field, model_validator

from runbook_lib.config.loading import Model
from runbook_lib.config.plan.shown import Pattern
from runbook_lib.config.plan.steps import UrlPath


class Rule(Model):
    """A rule that rewrites addresses; two are the same picture where all rules, in order, make them the same."""

    kind: str

    @abstractmethod
    def applied(self, address: str) -> str:
        """Return the address without what this rule is about; any other stays as it is. Pure."""


class NextImage(Rule):
    """An image optimiser that takes the stored address as a query parameter, as next/image does."""

    kind: Literal["next_image"]
    path: UrlPath = "/_next/image"
    """The path of the optimiser."""
    parameter: Annotated[str, Field(min_length=1)] = "url"
    """The query parameter that holds the stored address."""

    def applied(self, address: str) -> str:
        """Return the address that the optimiser is asked for. Pure."""
        parts = _split(address)
        if parts is None or parts.path.rstrip("/") != self.path.rstrip("/"):
            return address
        return parse_qs(parts.query).get(self.parameter, [address])[0]


# What signs an address in S3, CloudFront, Google Cloud Storage and Azure, in lower case.
ALWAYS = ("x-amz-", "x-goog-")
SIGNATURES = {"signature", "x-amz-signature", "x-goog-signature"}
WITH_SIGNATURE = set(
    "signature expires key-pair-id policy hash-algorithm awsaccesskeyid googleaccessid x-id".split()  # noqa: SIM905
)
WITH_SAS = set(  # a shared access signature
    "sig sv ss srt sp se st spr sr si sip ses sdd skoid sktid skt ske sks skv scid saoid suoid".split()  # noqa: SIM905
)


class Signed(Rule):
    """Addresses that are signed at each request: the parameters that sign are left out (S3, CloudFront, GCS, Azure)."""

    kind: Literal["signed"]

    def applied(self, address: str) -> str:
        """Return the address without the parameters that sign it. Pure."""
        parts = _split(address)
        if parts is None or not parts.query:
            return address
        pairs = [(pair, pair.partition("=")[0].lower()) for pair in parts.query.split("&")]
        names = {name for _, name in pairs}
        signing = WITH_SIGNATURE if names & SIGNATURES else WITH_SAS if "sig" in names else set[str]()
        kept = [pair for pair, name in pairs if name not in signing and not name.startswith(ALWAYS)]
        return urlunsplit(parts._replace(query="&".join(kept)))


class Prefix(Rule):
    """Another beginning, as of a CDN: what begins with `shown` is stored with `stored` in its place."""

    kind: Literal["prefix"]
    shown: Annotated[str, Field(min_length=1)]
    """How an address on the page begins."""
    stored: str
    """How the stored one begins."""

    def applied(self, address: str) -> str:
        """Return the address with the stored beginning. Pure."""
        return self.stored + address.removeprefix(self.shown) if address.startswith(self.shown) else address


class Replace(Rule):
    """A regular expression, replaced wherever it matches; `by` may name groups, as Python's `re.sub` does."""

    kind: Literal["replace"]
    pattern: Pattern
    """What is replaced."""
    by: str
    """What comes in its place, with groups as \\1."""

    @model_validator(mode="after")
    def _names_its_groups(self) -> Self:
        try:
            re.sub(f"{self.pattern}|", self.by, "")
        except (re.error, IndexError) as error:
            raise ValueError(f"`by` does not fit the pattern: {error}") from None
        return self

    def applied(self, address: str) -> str:
        """Return the address with what matches replaced. Pure."""
        return re.sub(self.pattern, self.by, address)


MediaRule = Annotated[NextImage | Signed | Prefix | Replace, Field(discriminator="kind")]
READY_MADE: tuple[Rule, ...] = (NextImage(kind="next_image"), Signed(kind="signed"))


def _split(address: str) -> SplitResult | None:
    try:
        return urlsplit(address)
    except ValueError:  # it is no address, as http://[
        return None
