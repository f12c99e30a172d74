"""The smallest rehearsal as a command asks for it: at once, or as a notebook that papermill executes and keeps."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from runbook_lib.config.loading import read
from runbook_lib.documents import load_plan
from runbook_lib.errors import ParametersError
from runbook_lib.headless.kernel import started
from runbook_lib.rehearsal.migration import Rehearsal, rehearse, require_files
from runbook_lib.system import temporary

KEEP, SERVER = "RUNBOOK_REHEARSAL_KEEP", "RUNBOOK_REHEARSAL_SERVER"  # environment variables: no password is a parameter
FORM = "application/json"
CELLS = (
    (
        "# Rehearsal of a rollback\n\n"
        "On scratch databases the migrations are applied to what was before, and users write. What the migrations\n"
        "changed is then taken back where users have not changed it since, verified, undone, and the migrations run again.",
        'BEFORE: str = ""\nMIGRATIONS: list = []\nUSE: str = ""\nOPTION: str = ""\nPLAN: str = ""',
    ),
    (
        "## Apply, take back, verify, undo\n\n"
        "What nobody can know is refused by name, and nothing is changed. The environment names the server.",
        "from IPython.display import display\n\n"
        "from runbook_lib.rehearsal.executed import from_parameters\n"
        "from runbook_lib.rehearsal.migration import in_words\n\n"
        "found = from_parameters(BEFORE, MIGRATIONS, USE, OPTION, PLAN)",
    ),
    ("## What it came to", 'print("\\n".join(in_words(found, verbose=False)))'),
    ("## The statements that took it back", 'print("\\n".join(found.statements) or "None.")'),
    ("## The same for other programs", f'display({{"{FORM}": found.as_json(), "text/plain": found.outcome}}, raw=True)'),
)


@dataclass(frozen=True)
class Asked:
    """What a rehearsal is to do, as `rehearse` explains it; `plan` is a plan's file."""

    before: Path
    migrations: Sequence[Path]
    use: Path | None = None
    keep: str = ""
    server: str = ""
    option: str = ""
    plan: Path | None = None

    def rehearsed(self, report: Callable[[str], None]) -> Rehearsal:
        """Do it. Changes the database that is to be kept.

        Raises:
            ParametersError: A file is missing or wrong, or the server cannot be used.
        """
        decide, keys = (load_plan(self.plan, undrafted=True).decide, read(self.plan)) if self.plan else (None, None)
        return rehearse(
            self.before,
            self.migrations,
            self.use,
            self.keep,
            report,
            decide,
            server=self.server,
            option=self.option,
            plan=keys,
        )

    def executed(self, file: Path) -> Rehearsal:
        """Do it in a notebook, which is kept. Changes that file, and the database that is to be kept.

        Raises:
            ParametersError: The file is no place for a notebook, or another is missing.
            NotebookUnfinished: The rehearsal could not be made; the notebook says why.
        """
        import papermill
        from nbformat import v4, write

        require_files([self.before, *self.migrations, *filter(None, [self.use, self.plan])])
        _require_place(file)
        parameters = {
            "BEFORE": str(self.before.resolve()),
            "MIGRATIONS": [str(path.resolve()) for path in self.migrations],
            "USE": str(self.use.resolve()) if self.use else "",
            "OPTION": self.option,
            "PLAN": str(self.plan.resolve()) if self.plan else "",
        }
        cells = []
        for number, (prose, code) in enumerate(CELLS):
            cells.append(v4.new_markdown_cell(prose))
            cells.append(v4.new_code_cell(code, metadata={} if number else {"tags": ["parameters"]}))
        with (
            started(opens_page=False, given={KEEP: self.keep, SERVER: self.server}) as kernel,
            temporary.directory() as own,
        ):
            kernel_spec = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
            write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel_spec}), own / file.name)
            engine = {"engine_name": "runbook", "kernel_name": "python3", "kernel": kernel}
            saved = f"runbook://{file.resolve()}"
            made = papermill.execute_notebook(str(own / file.name), saved, parameters, progress_bar=False, **engine)
        (shown,) = (each.data[FORM] for cell in made.cells[-1:] for each in cell.outputs)
        return TypeAdapter(Rehearsal).validate_json(json.dumps(shown))


def from_parameters(before: str, migrations: Sequence[str], use: str, option: str, plan: str) -> Rehearsal:
    """Rehearse as the notebook's parameters and the environment say. Changes the database that is to be kept."""
    keep, server = (os.environ.get(name, "") for name in (KEEP, SERVER))
    used, planned = (Path(each) if each else None for each in (use, plan))
    return Asked(Path(before), [*map(Path, migrations)], used, keep, server, option, planned).rehearsed(print)


def _require_place(file: Path) -> None:
    if file.suffix != ".ipynb" or not file.parent.is_dir() or file.exists():
        raise ParametersError(
            f"{file} is no place for a new notebook: the folder must exist, the file must not, and the name end in .ipynb.",
            state="Nothing was started.",
            safe_next="Name another file with --notebook.",
        )
