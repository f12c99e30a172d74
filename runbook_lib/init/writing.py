"""Writes the files of `runbook init`; one that is there is left as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.config.open_points import OpenPoint, open_points
from runbook_lib.errors import ParametersError
from runbook_lib.init import ci, production, rehearsal
from runbook_lib.init.commented import text
from runbook_lib.init.finders import look
from runbook_lib.init.found import Folder, Found
from runbook_lib.init.team import Team

PRODUCTION, REHEARSAL, STACK = (f"parameters/{name}.yaml" for name in ("production", "rehearsal", "stack"))


@dataclass(frozen=True)
class Written:
    """What was found, which files were written and which were there, and what is left to decide in each."""

    found: list[Found]
    files: list[str]
    left: list[str]
    asked: dict[str, list[OpenPoint]]

    def as_json(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return {
            "found": [{"where": each.where, "what": each.words} for each in self.found],
            "written": self.files,
            "left": self.left,
            "to_decide": {file: [vars(each) for each in asked] for file, asked in self.asked.items()},
        }

    def lines(self) -> list[str]:
        """Return what a person reads of it. Pure."""
        return [
            *(f"found    {each.where}: {each.words}" for each in self.found),
            *(f"wrote    {file}{_count(self.asked.get(file, []))}" for file in self.files),
            *(f"left     {file}, which is there already" for file in self.left),
            *(f"decide   {file}, {each}" for file, asked in self.asked.items() for each in asked),
        ]


def init(path: Path) -> Written:
    """Write target, stack and CI files into a team's repository, from what is found there. Changes that folder.

    Raises:
        ParametersError: There is no such folder.
    """
    if not path.is_dir():
        raise ParametersError(
            f"There is no folder {path}.", state="Nothing was written.", safe_next="Name a team's repository by --folder."
        )
    found = look(Folder(path.resolve()))
    team = Team(path.resolve().name, found)
    texts = {
        PRODUCTION: production.HEAD.format(name=team.name) + "\n" + text(production.target(team)),
        REHEARSAL: rehearsal.TARGET_HEAD.format(name=team.name) + "\n" + text(rehearsal.target(team)),
        STACK: rehearsal.STACK_HEAD.format(name=team.name) + "\n" + text(rehearsal.stack(team)),
        **ci.files(path, team),
    }
    left = [name for name in texts if (path / name).exists()]
    made = [name for name in texts if name not in left]
    for name in made:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(texts[name])
    return Written(found, made, left, {name: asked for name in made if (asked := open_points(texts[name]))})


def _count(asked: list[OpenPoint]) -> str:
    return f": {len(asked)} to decide" if asked else ""
