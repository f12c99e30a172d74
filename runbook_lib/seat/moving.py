"""Carries a run on from another machine, by what the target's database holds of it."""

import shutil
import socket
from pathlib import Path, PurePosixPath

from runbook_lib import opening
from runbook_lib.adapters.postgres import mirror_files
from runbook_lib.adapters.postgres.connection import Postgres
from runbook_lib.errors import ParametersError
from runbook_lib.parameters import ROOT
from runbook_lib.run import Run
from runbook_lib.seat import mirroring
from runbook_lib.target import load_target


def take_up(target_file: Path, run: str, to: str, outputs: Path = ROOT / "outputs") -> Run:
    """Make the folder of a run, the newest where none is named, anew here, and have `to` carry it on.

    From then on every step of a type that touches the database is refused in the folder that it had elsewhere.

    Changes the runbook's own tables in the target only.

    Raises:
        ParametersError: The target holds no such run, it is here already, or nobody is named.
        JournalError: A line of its journal was changed, taken out or put in.
        AdapterError: The server cannot be reached.
    """
    target, to = load_target(target_file), to.strip()
    if not to:
        raise ParametersError(
            "Nobody is named who carries the run on.", state="Nothing was changed.", safe_next="Give the name with --to."
        )
    with Postgres(target.database.service, "status").connect() as connection:
        name, lines = mirroring.received(connection, target, run)
        files = mirror_files.received(connection, name)
    path = outputs / PurePosixPath(name).name
    if path.exists():
        raise ParametersError(
            f"The run {name} is here already.",
            where=str(path),
            state="Nothing was changed.",
            safe_next="Go on with it there.",
        )
    made = _made(path, lines, files)
    opened = opening.open_existing(made, to)
    gone = sorted({e["file"] for e in opened.state.evidence if not (made / e["file"]).exists()})
    opened.journal.append("taken-up", by=to, host=socket.gethostname(), files=len(files), missing=gone)
    if to != opened.state.operator:
        mirroring.hand_over(opened, to)
    mirroring.send(opened)
    return opened


def _made(path: Path, lines: list[str], files: dict[str, bytes]) -> Path:
    """Write the folder beside its place first, so that it is there whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "evidence").mkdir(parents=True)
    mirroring.written(part, lines).events()  # raises where the chain is broken
    for name, content in files.items():
        file = part / name
        if not file.resolve().is_relative_to(part.resolve()):
            raise ParametersError(
                f"The target's database holds a file with the name {name!r}, which leads out of the run's folder.",
                state="Nothing was changed.",
                safe_next="Find out who put it there, before anything else.",
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return part.rename(path)
