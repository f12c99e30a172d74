"""Instructions for a person in place of a step: statements, a command or words, and the expected result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runbook_lib.redaction import redact
from runbook_lib.system.processes import typed

HELD_BACK = "the command holds a possible secret, which is never shown: {}"


@dataclass(frozen=True)
class Instruction:
    """One thing to do by hand: `text` for psql or a shell, or words; `expect` names the expected result."""

    kind: Literal["sql", "shell", "words"]
    text: str
    expect: str


def in_psql(text: str, expect: str) -> Instruction:
    """Make an instruction with a psql script on the target's database. Pure."""
    return _shown("sql", text, expect)


def in_shell(line: str, expect: str) -> Instruction:
    """Make an instruction with a line for a shell. Pure."""
    return _shown("shell", line, expect)


def in_shell_at(
    path: Path | None, *commands: Sequence[str], expect: str, env: Mapping[str, str] | None = None
) -> Instruction:
    """Make an instruction with shell commands, one per line, in a directory and an environment. Pure."""
    return in_shell("\n".join(typed(command, path, env or {}) for command in commands), expect)


def fed(command: Sequence[str], statements: Sequence[str]) -> str:
    """Return a shell line that feeds statements to psql. Pure."""
    return "\n".join([f"{typed(command)} <<'SQL'", *(f"{statement};" for statement in statements), "SQL"])


def in_words(text: str, expect: str = "") -> Instruction:
    """Make an instruction in words, for work that no script or command can do. Pure."""
    return Instruction("words", redact(text), expect)


def _shown(kind: Literal["sql", "shell"], text: str, expect: str) -> Instruction:
    if redact(text) != text:
        return in_words(HELD_BACK.format(redact(text)), expect)
    return Instruction(kind, text, expect)
