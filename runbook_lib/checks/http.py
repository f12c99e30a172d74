"""A page or an endpoint answers as in the plan: its status, headers, and values of its JSON."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from runbook_lib.checks import CheckContext, check
from runbook_lib.config.loading import like
from runbook_lib.config.plan import CheckSpec
from runbook_lib.config.plan.answer_path import ABSENT, AnswerPath, at, places
from runbook_lib.config.plan.steps import Address, Name, Scalar, UrlPath
from runbook_lib.config.target import SecretReference
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError, ParametersError
from runbook_lib.redaction import redact
from runbook_lib.results import Found, Result, Status
from runbook_lib.system.http import Answer, NoAnswerInTime, without_credentials

SHOWN = 80  # characters of a value
DECLINED = (408, 425, 429)  # it asks the client to retry later


def _one_place(path: str) -> str:
    if "[]" in path or "*" in path:
        raise ValueError("it must name one place, for example items[0].state, and not all of a list or an object")
    return path


OnePlace = Annotated[AnswerPath, AfterValidator(_one_place)]
Header = Annotated[str, AfterValidator(like(r"^[!#$%&'*+.^`|~\w-]+\Z", "the name of a header, for example Cache-Control"))]


class HttpKeys(CheckSpec):
    """Whether an address answers as it should. Redirects are not followed: they are an answer."""

    kind: Literal["http"]
    endpoint: Name | None = None
    """The endpoint of the target, with `path`; or `url`."""
    path: UrlPath = "/"
    """The path on that endpoint."""
    url: Address | None = None
    """A full address, in place of an endpoint."""
    status: Annotated[int, Field(ge=100, le=599)] = 200
    """The expected status."""
    headers: dict[Header, str] = {}
    """A text that each of these headers must contain, for example `Cache-Control: no-store`."""
    json_: dict[OnePlace, Scalar] = Field(default={}, alias="json")
    """Paths into the JSON answer, for example `items[0].state`, and the expected value at each."""
    fields: list[AnswerPath] = []
    """Paths that must exist in the JSON answer, in each element of a list: `orders[].total`; null counts as present."""
    seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    """The time limit in seconds."""
    token: SecretReference | None = None
    """The environment variable whose value is sent as a bearer token."""

    area = "API"
    requires = ()

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.endpoint is None) is (self.url is None):
            raise ValueError("it must have either an endpoint or a url")
        if self.url and self.path != "/":
            raise ValueError("a url has its own path; write it there")
        return self

    def of_target(self) -> tuple[str, ...]:
        """Its endpoint. Pure."""
        return (f"endpoints.{self.endpoint}",) if self.endpoint else ()


def _token(context: Context, name: str) -> str | None:
    spec = context.plan.checks[name]
    assert isinstance(spec, HttpKeys)
    return context.adapters.secret(spec.token.env, f"checks.{name}") if spec.token else None


def _beforehand(context: Context, name: str) -> Found:
    """Check that the token is set. Read-only."""
    try:
        _token(context, name)
    except ParametersError as error:
        return Status.FAIL, error.what
    return Status.PASS, "the request can be sent"


@check(HttpKeys, beforehand=_beforehand)
def answers(checked: CheckContext, name: str) -> Result:
    """Check that the address answers in time, with the plan's status, headers and values. Read-only.

    FAIL if nothing listens, or there is no answer in time. UNKNOWN if the connection itself is in doubt, for example
    because of an unknown host or an untrusted certificate.
    """
    context, spec = checked.context, checked.context.plan.checks[name]
    assert isinstance(spec, HttpKeys)
    url = spec.url or f"{context.target.endpoint(str(spec.endpoint))}{spec.path}"
    shown = without_credentials(url)
    try:
        answer = context.adapters.http.get(url, token=_token(context, name), timeout=spec.seconds)
    except ParametersError as error:
        return checked.result(name, Status.UNKNOWN, error.what)
    except AdapterError as error:
        return checked.result(name, *_no_answer(context, url, shown, spec, error))
    if answer.status in DECLINED and answer.status != spec.status:
        return checked.result(name, Status.UNKNOWN, f"{shown} answered {answer.status}, which does not show what it serves")
    problems = [*_status(answer, spec), *_headers(answer, spec), *_values(answer, spec), *_lacking(answer, spec)]
    facts = f"{shown} answered {answer.status} in {answer.seconds * 1000:.0f} ms"
    evidence = {"url": shown, "code": answer.status, "milliseconds": round(answer.seconds * 1000, 1)}
    if problems:
        return checked.result(name, Status.FAIL, f"{facts}: {'; '.join(problems)}", **evidence, findings=problems)
    if unseen := [path for path in spec.fields if not places(answer.json, path)]:
        said = f"{facts}, with no element that could have {', '.join(unseen)}"
        return checked.result(name, Status.UNKNOWN, said, **evidence)
    held = [*spec.headers, *spec.json_, *spec.fields]
    return checked.result(name, Status.PASS, facts + (f", and {', '.join(held)} as expected" if held else ""), **evidence)


def _no_answer(context: Context, url: str, shown: str, spec: HttpKeys, error: AdapterError) -> Found:
    listens = context.adapters.listens(url)
    if not listens:
        return Status.FAIL, f"nothing listens at {shown}"
    if isinstance(error, NoAnswerInTime):
        return Status.FAIL, f"{shown} accepted the connection but did not answer within {spec.seconds:g} s"
    return Status.UNKNOWN, f"could not be checked: {error.what}"


def _status(answer: Answer, spec: HttpKeys) -> list[str]:
    if answer.status == spec.status:
        return []
    to = f", a redirect to {redact(answer.headers['location'])}" if "location" in answer.headers else ""
    return [f"its status is not {spec.status}{to}"]


def _headers(answer: Answer, spec: HttpKeys) -> list[str]:
    found = {name: answer.headers.get(name.lower()) for name in spec.headers}
    return [
        f"its header {name} is {redact(value)[:SHOWN] if value is not None else 'missing'}, not {spec.headers[name]}"
        for name, value in found.items()
        if value is None or not _holds(value, spec.headers[name])
    ]


def _holds(value: str, expected: str) -> bool:
    """Check whether a header contains a text as whole words and numbers: max-age=600 does not contain max-age=60."""
    before = r"(?<![\w.-])" if expected[:1].isalnum() else ""
    after = r"(?![\w-]|\.\d)" if expected[-1:].isalnum() else ""
    return re.search(before + re.escape(expected) + after, value, re.I) is not None


def _values(answer: Answer, spec: HttpKeys) -> list[str]:
    if (spec.json_ or spec.fields) and answer.json is None:
        return ["it is not JSON"]
    found = {path: at(answer.json, path) for path in spec.json_}
    return [
        f"{path} is {'missing' if value is ABSENT else redact(repr(value))[:SHOWN]}, not {spec.json_[path]!r}"
        for path, value in found.items()
        if not _same(value, spec.json_[path])
    ]


def _lacking(answer: Answer, spec: HttpKeys) -> list[str]:
    if answer.json is None:
        return []
    found = {path: places(answer.json, path) for path in spec.fields}
    lacking = {path: sum(value is ABSENT for value in values) for path, values in found.items()}
    return [f"{path} is missing in {lacking[path]} of {len(found[path])}" for path in spec.fields if lacking[path]]


def _same(found: Any, expected: Scalar) -> bool:
    """Check whether two values are equal in JSON, in which true is not 1."""
    return isinstance(found, bool) is isinstance(expected, bool) and bool(found == expected)
