"""The services of a stack: how each is built and run."""

import subprocess
import sys
from pathlib import Path

from runbook_lib.rehearsal.errors import StackError
from runbook_lib.rehearsal.faults import Fault
from runbook_lib.rehearsal.postgres import command
from runbook_lib.rehearsal.repositories import create_backend, create_frontend
from runbook_lib.rehearsal.supervisor import Program


def build(root: Path, fault: Fault) -> None:
    """Create both repositories below `root` and build what each has checked out. Raises StackError when that fails."""
    for create, directory in ((create_backend, root / "backend"), (create_frontend, root / "frontend")):
        create(directory, fault)
        result = subprocess.run([sys.executable, "build.py"], cwd=directory, capture_output=True, text=True, check=False)
        if result.returncode:
            raise StackError(
                f"build.py failed: {result.stderr.strip()}",
                where=str(directory),
                state="the stack is being brought down",
                safe_next="mend what the build names and start again",
            )


def postgres_program(root: Path) -> Program:
    """Return the embedded server as a service; SIGINT is its fast shutdown. Read-only."""
    return Program("postgres", command(root), root, stop_signal="INT")


def application_programs(environment: dict[str, str]) -> list[Program]:
    """Return backend, frontend and worker as services of the stack that `environment` describes. Read-only."""
    root = Path(environment["REHEARSAL_ROOT"])
    backend_url, frontend_url = environment["REHEARSAL_BACKEND_URL"], environment["REHEARSAL_FRONTEND_URL"]
    python = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    token = {"API_TOKEN": environment["REHEARSAL_API_TOKEN"]}
    login = {"PGSERVICEFILE": environment["PGSERVICEFILE"], "PGSERVICE": "rehearsal_app"}
    return [
        Program(
            "backend",
            [sys.executable, "dist/main.py", "--port", backend_url.rpartition(":")[2]],
            root / "backend",
            {**python, **token, **login},
        ),
        Program(
            "frontend",
            [sys.executable, "serve.py", "--port", frontend_url.rpartition(":")[2]],
            root / "frontend",
            {**python, **token, "BACKEND_URL": backend_url},
        ),
        Program("worker", [sys.executable, "dist/worker.py"], root / "backend", {**python, **login}),
    ]
