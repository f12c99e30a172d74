"""A check by a command of the target and its exit code."""

from collections import deque
from pathlib import Path
from typing import Literal

from runbook_lib.checks import CheckContext, check
from runbook_lib.config.plan import CheckSpec
from runbook_lib.config.plan.steps import Name
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError
from runbook_lib.redaction import Lines
from runbook_lib.results import Found, Result, Status
from runbook_lib.system.processes import not_found, shown

KEPT = 1000  # last lines of its output
LONGEST = 4000  # characters of a line
SHOWN = 160  # characters of the last line
STATUSES = {0: Status.PASS, 1: Status.FAIL}  # any other exit code means UNKNOWN


class CommandKeys(CheckSpec):
    """Whether a command of the target exits with 0; 1 is a failure, and anything else is unknown."""

    kind: Literal["command"]
    command: Name
    """Its name under `commands` in the target."""

    area = "Services"
    requires = ()

    def of_target(self) -> tuple[str, ...]:
        """Return the command. Pure."""
        return (f"commands.{self.command}",)


def _beforehand(context: Context, name: str) -> Found:
    """Check whether the program is here, and the folder that it is run in. Read-only."""
    spec = context.plan.checks[name]
    assert isinstance(spec, CommandKeys)
    target = context.target.commands[spec.command]
    if target.directory and not Path(target.directory).is_dir():
        return Status.FAIL, f"the folder {target.directory} does not exist; correct commands.{spec.command} in the target"
    if missing := not_found([target.command]):
        return Status.FAIL, f"{missing[0]} cannot be run from here; install it, or correct commands.{spec.command}"
    return Status.PASS, f"{target.command[0]} can be run from here"


@check(CommandKeys, beforehand=_beforehand)
def says_well(checked: CheckContext, name: str) -> Result:
    """Check that the command exits with 0 in time, and keep its output. Changes only what the command changes."""
    context, spec = checked.context, checked.context.plan.checks[name]
    assert isinstance(spec, CommandKeys)
    target = context.target.commands[spec.command]
    said: deque[str] = deque(maxlen=KEPT)
    clean = Lines()
    cwd = Path(target.directory) if target.directory else None
    try:
        done = context.adapters.processes.run(
            target.command, cwd=cwd, timeout=target.timeout, report=lambda line: said.append(clean(line[:LONGEST]))
        )
    except AdapterError as error:
        text = checked.keep_text(name, "\n".join([f"$ {shown(target.command)}", *said]))
        return checked.result(name, Status.UNKNOWN, f"could not be checked: {error.what}", text=text)
    ended = f"exit code {done.exit_code} after {done.seconds:.1f} s"
    text = checked.keep_text(name, "\n".join([f"$ {shown(target.command)}", *said, f"[{ended}]"]))
    last = next((line.strip() for line in reversed(said) if line.strip()), "")[:SHOWN]
    status = STATUSES.get(done.exit_code, Status.UNKNOWN)
    unclear = " (0 means well, 1 not, any other unknown)" if status is Status.UNKNOWN else ""
    summary = f"{spec.command}: {ended}{unclear}" + (f": {last}" if last else "")
    return checked.result(name, status, summary, exit_code=done.exit_code, text=text)
