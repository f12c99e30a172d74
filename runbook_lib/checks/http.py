"""A page or an endpoint answers as the plan says: its status, headers, and values of its JSON."""

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
DECLINED = (408, 425, 429)  # it asks to come later


def _one_place(path: str) -> str:
    if "[]" in path or "*" in path:
        raise ValueError("it must name one place, as items[0].state, and not all of a list or an object")
    return path


OnePlace = Annotated[AnswerPath, AfterValidator(_one_place)]
Header = Annotated[str, AfterValidator(like(r"^[!#$%&'*+.^`|~\w-]+\Z", "the name of a header, as Cache-Control"))]


class HttpKeys(CheckSpec):
    """Whether an address answers as it should. Redirects are not followed: they are an answer."""

    kind: Literal["http"]
    endpoint: Name | None = None
    """The endpoint of the target that is asked, with `path`; or `url`."""
    path: UrlPath = "/"
    """The path on that endpoint."""
    url: Address | None = None
    """A whole address, in place of an endpoint."""
    status: Annotated[int, Field(ge=100, le=599)] = 200
    """The status that it must answer with."""
    headers: dict[Header, str] = {}
    """What each of these headers must hold, as `Cache-Control: no-store`."""
    json_: dict[OnePlace, Scalar] = Field(default={}, alias="json")
    """Paths into the JSON that it answers with, as `items[0].state`, and the value at each."""
    fields: list[AnswerPath] = []
    """Paths into that JSON which must be there, in each element of a list: `orders[].total`; null counts as there."""
    seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    """How long it may take."""
    token: SecretReference | None = None
    """The environment variable whose value is sent as bearer token."""

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
    """Whether the token is there. Read-only."""
    try:
        _token(context, name)
    except ParametersError as error:
        return Status.FAIL, error.what
    return Status.PASS, "it can ask"


@check(HttpKeys, beforehand=_beforehand)
def answers(checked: CheckContext, name: str) -> Result:
    """Whether the address answers in time, with the status, the headers and the values that the plan says. Read-only.

    Where nothing listens, or what listens does not answer in time, it fails. Where the way there is in question, as with a
    host that is not known or a certificate that is not trusted, it is unknown.
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
        return checked.result(
            name, Status.UNKNOWN, f"{shown} answered {answer.status}, which says nothing of what it serves"
        )
    problems = [*_status(answer, spec), *_headers(answer, spec), *_values(answer, spec), *_lacking(answer, spec)]
    facts = f"{shown} answered {answer.status} in {answer.seconds * 1000:.0f} ms"
    evidence = {"url": shown, "code": answer.status, "milliseconds": round(answer.seconds * 1000, 1)}
    if problems:
        return checked.result(name, Status.FAIL, f"{facts}: {'; '.join(problems)}", **evidence, findings=problems)
    if unseen := [path for path in spec.fields if not places(answer.json, path)]:
        said = f"{facts}, with no element in which {', '.join(unseen)} could be"
        return checked.result(name, Status.UNKNOWN, said, **evidence)
    held = [*spec.headers, *spec.json_, *spec.fields]
    return checked.result(name, Status.PASS, facts + (f", and {', '.join(held)} as it must" if held else ""), **evidence)


def _no_answer(context: Context, url: str, shown: str, spec: HttpKeys, error: AdapterError) -> Found:
    listens = context.adapters.listens(url)
    if not listens:
        return Status.FAIL, f"nothing listens at {shown}"
    if isinstance(error, NoAnswerInTime):
        return Status.FAIL, f"{shown} took the connection and did not answer within {spec.seconds:g} s"
    return Status.UNKNOWN, f"could not be checked: {error.what}"


def _status(answer: Answer, spec: HttpKeys) -> list[str]:
    if answer.status == spec.status:
        return []
    to = f", a redirect to {redact(answer.headers['location'])}" if "location" in answer.headers else ""
    return [f"its status is not {spec.status}{to}"]


def _headers(answer: Answer, spec: HttpKeys) -> list[str]:
    found = {name: answer.headers.get(name.lower()) for name in spec.headers}
    return [
        f"its header {name} is {redact(value)[:SHOWN] if value is not None else 'not there'}, and not {spec.headers[name]}"
        for name, value in found.items()
        if value is None or not _holds(value, spec.headers[name])
    ]


def _holds(value: str, wanted: str) -> bool:
    """Whether a header holds a text, whose words and numbers are whole there: max-age=60 is not in max-age=600."""
    before = r"(?<![\w.-])" if wanted[:1].isalnum() else ""
    after = r"(?![\w-]|\.\d)" if wanted[-1:].isalnum() else ""
    return re.search(before + re.escape(wanted) + after, value, re.I) is not None


def _values(answer: Answer, spec: HttpKeys) -> list[str]:
    if (spec.json_ or spec.fields) and answer.json is None:
        return ["it is no JSON"]
    found = {path: at(answer.json, path) for path in spec.json_}
    return [
        f"{path} is {'not there' if value is ABSENT else redact(repr(value))[:SHOWN]}, and not {spec.json_[path]!r}"
        for path, value in found.items()
        if not _same(value, spec.json_[path])
    ]


def _lacking(answer: Answer, spec: HttpKeys) -> list[str]:
    if answer.json is None:
        return []
    found = {path: places(answer.json, path) for path in spec.fields}
    lacking = {path: sum(value is ABSENT for value in values) for path, values in found.items()}
    return [f"{path} is not there in {lacking[path]} of {len(found[path])}" for path in spec.fields if lacking[path]]


def _same(found: Any, wanted: Scalar) -> bool:
    """Whether two values are equal as JSON has them, where true is not 1."""
    return isinstance(found, bool) is isinstance(wanted, bool) and bool(found == wanted)
