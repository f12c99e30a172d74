"""Asking a service over HTTP."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from runbook_lib.errors import AdapterError
from runbook_lib.redaction import redact, register

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class Answer:
    """What a server answered, whatever its status; `json` is None where the body is no JSON."""

    status: int
    json: Any | None
    text: str
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)  # by their names in small letters

    @classmethod
    def of(cls, status: int, text: str, seconds: float = 0.0, headers: Mapping[str, str] | None = None) -> Answer:
        """Return the answer whose body is `text`; a byte order mark before it is left out. Read-only."""
        text = text.removeprefix("\ufeff")
        named = {name.lower(): value for name, value in (headers or {}).items()}
        try:
            return cls(status, json.loads(text), text, seconds, named)
        except (ValueError, RecursionError):
            return cls(status, None, text, seconds, named)


class NoAnswerInTime(AdapterError):
    """A server did not answer within the time that it had."""


class Http(Protocol):
    """Reads from HTTP servers."""

    def get(self, url: str, *, token: str | None = None, timeout: float = 10) -> Answer:
        """Return what the server answers within `timeout` seconds, asked with `token` as bearer. Read-only.

        Raises:
            NoAnswerInTime: None came within that time.
            AdapterError: None came for another reason.
        """


class DirectHttp:
    """HTTP on kept-alive connections, straight to the server: no proxy, no .netrc, no redirect followed."""

    def __init__(self) -> None:
        self._client: httpx.Client | None = None

    def get(self, url: str, *, token: str | None = None, timeout: float = 10) -> Answer:
        """See `Http.get`."""
        import httpx

        headers = {"Authorization": f"Bearer {register(token)}"} if token else {}
        started = time.monotonic()
        body = bytearray()
        try:
            with self._opened().stream("GET", url, headers=headers, timeout=timeout) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if time.monotonic() - started > timeout:
                        raise httpx.ReadTimeout("the answer did not end")
        except httpx.TimeoutException:
            raise _no_answer(url, f"nothing within {timeout:g} s", NoAnswerInTime) from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise _no_answer(url, f"{type(error).__name__}: {error}") from None
        encoding = response.encoding if response.charset_encoding else json.detect_encoding(bytes(body))
        text = body.decode(encoding or "utf-8", errors="replace")
        return Answer.of(response.status_code, text, time.monotonic() - started, response.headers)

    def close(self) -> None:
        """Close the connections that are kept."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _opened(self) -> httpx.Client:
        import ssl

        import httpx

        if self._client is None:
            self._client = httpx.Client(trust_env=False, verify=ssl.create_default_context())
        return self._client


class MemoryHttp:
    """HTTP that a function of URL and token answers, by an Answer or by raising OSError."""

    def __init__(self, answer: Callable[[str, str | None], Answer]) -> None:
        self._answer = answer

    def get(self, url: str, *, token: str | None = None, timeout: float = 10) -> Answer:
        """See `Http.get`."""
        if token:
            register(token)
        try:
            return self._answer(url, token)
        except TimeoutError:
            raise _no_answer(url, f"nothing within {timeout:g} s", NoAnswerInTime) from None
        except OSError as error:
            raise _no_answer(url, f"{type(error).__name__}: {error}") from None


def without_credentials(url: str) -> str:
    """`url` without user, password and anything else known to be secret. Read-only."""
    return redact(re.sub(r"//[^/?#]*@", "//", url))


def _no_answer(url: str, reason: str, kind: type[AdapterError] = AdapterError) -> AdapterError:
    return kind(
        f"{without_credentials(url)} did not answer: {redact(reason)}.",
        state="Nothing was changed; what the server would say is unknown.",
        safe_next="Make sure that the service runs and that this machine reaches it, then ask again.",
    )


SECONDS = 3.0
DEFAULTS = {"http": 80, "https": 443}


def is_open(address: str) -> bool:
    """Check whether a connection to a URL's host and port, or to host:port, is accepted; refused is the one no. Read-only.

    Raises:
        AdapterError: It is unknown: the host is not known, or does not answer.
    """
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        port = parts.port or DEFAULTS[parts.scheme]
        with socket.create_connection((parts.hostname or "", port), timeout=SECONDS):
            return True
    except ConnectionRefusedError:
        return False
    except (OSError, KeyError, ValueError) as error:
        raise AdapterError(
            f"Whether anything listens at {address} is unknown: {error or type(error).__name__}.",
            where=address,
            state="Nothing was changed.",
            safe_next="Correct the address under listens in the target, or the connection to it.",
        ) from None
