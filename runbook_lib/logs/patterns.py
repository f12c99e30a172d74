"""Regular expressions of a plan on the records of a log, for a limited time: some never end on some lines."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator

from runbook_lib.errors import AdapterError
from runbook_lib.system.processes import LocalProcesses

LONGEST = 4000  # characters of a record that are looked at
SECONDS = 20.0

# A thread cannot be stopped in the middle of a match; a process of its own can.
_PROGRAM = """
import json, re, sys
wanted = json.load(sys.stdin)
patterns = {name: [re.compile(one, re.M) for one in each] for name, each in wanted["patterns"].items()}
print(json.dumps({n: [any(p.search(t) for p in each) for t in wanted["texts"]] for n, each in patterns.items()}))
"""


def _valid(pattern: str) -> str:
    try:
        compiled = re.compile(pattern, re.M)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"it is no regular expression: {error}") from None
    if compiled.search(""):
        raise ValueError("it matches every line, as it matches an empty one; a pattern must match something")
    return pattern


Pattern = Annotated[str, AfterValidator(_valid)]


def matched(patterns: Mapping[str, Sequence[str]], texts: Sequence[str]) -> dict[str, list[bool]]:
    """For each name, whether any of its patterns matches each text. Read-only.

    Raises:
        AdapterError: The patterns took too long.
    """
    if not any(patterns.values()):
        return {name: [False] * len(texts) for name in patterns}
    wanted = json.dumps({"patterns": patterns, "texts": [text[:LONGEST] for text in texts]})
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM]
    try:
        answer = LocalProcesses().run(command, timeout=SECONDS, input=wanted)
    except AdapterError:
        raise AdapterError(
            f"The plan's patterns for log lines did not end within {SECONDS:g} s on {len(texts)} records.",
            where=", ".join(pattern for each in patterns.values() for pattern in each),
            state="Nothing was changed; whether the log holds errors is unknown.",
            safe_next="Write them without a repetition inside of a repetition, as `(a+)+`.",
        ) from None
    found: dict[str, list[bool]] = json.loads(answer.require().output)
    return found
