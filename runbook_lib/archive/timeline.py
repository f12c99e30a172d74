"""Each event of a journal in one line."""

import json
from collections.abc import Mapping
from typing import Any

from runbook_lib.archive.facts import clock
from runbook_lib.journal import Event

_FORMS = {
    "opened": "{plan} on {target} ({environment}), type {type}, by {operator}",
    "notebook-started": "{notebook}",
    "notebook-ended": "{notebook}: {status}",
    "chosen": "{name} = {value} ({by})",
    "symptom": "{symptom}: {value}, by {by}; {probes} by the probes",
    "overridden": "{chosen} instead of {recommended}, by {by}: {reason}",
    "waived": "{name}, by {by}: {reason}",
    "left-out": "{name}: {reason}",
    "approved": "{digest} by {by}",
    "checked": "{status}: {title}. {summary} [{round}]",
    "started": "{title}",
    "failed": "{step}: {error}",
    "output": "{step}: {line}",
    "evidence": "{title} ({file})",
    "escalated": "from {from} to {to}: {because}",
    "taken-over": "from {before}, by {by}: {reason}",
    "released": "{database}",
    "owed": "{debt}: {text}",
    "paid": "{debt}",
    "recommended": "{type}: {reason}",
    "diagnosed": "{text}",
    "index-scans": "{step}: {scans}",
    "steered": "{step}: {wanted}, by {by}",
    "stopped": "{cell}: {error}",
    "noted": "{text}",
    "asked": "{question}",
    "answered": "{question}",
    "cell-started": "{source}",
    "cell-ended": "{outcome} in {seconds} s, outputs {outputs}",
    "chosen-after-failure": "{step}: {value} ({by})",
    "handed-over": "from {from} to {to}",
    "taken-up": "by {by} on {host}, with {files} files",
    "outcome": "{status} (exit code {exit_code}): {summary}",
}


def told(event: Event) -> str:
    """An event in one line; one of an unknown kind, or with other facts than usual, as it stands. Read-only."""
    data = event.data
    try:
        match event.kind:
            case "previewed":
                text = f"{data['digest']}: {', '.join(data['steps'])}"
            case "service-back":
                text = f"{data['digest']}: {', '.join(' '.join(move) for move in data['moves'])}"
            case "served":
                text = f"{', '.join(data['services'])} run in a combination that the plan allows"
            case "found":
                text = f"{data['title']}: already done; {facts(data['outcome'])}"
            case "applied" | "undone":
                text = f"{data['step']} in {clock(data['seconds'])}; {facts(data['outcome'])}"
            case _:
                text = _FORMS[event.kind].format_map(data)
    except (KeyError, TypeError, ValueError, AttributeError):
        text = json.dumps(data, ensure_ascii=False, default=str)
    return " ".join(text.split()).rstrip("; ")


def facts(values: Mapping[str, Any]) -> str:
    """Facts in one line: "rows cleared: 12, exact: yes". Read-only."""
    return ", ".join(f"{name.replace('_', ' ')}: {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(_value(item) for item in value) or "nothing"
        case dict():
            return f"({facts(value)})"
        case _:
            return str(value)
