"""The sample application: its repositories, its faults and its services, as its stack's file says them."""

from pathlib import Path

from runbook_lib.rehearsal.repositories import create
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.rehearsal.stack_file import SAMPLE as NAME
from runbook_lib.rehearsal.stack_file import Fault, named
from runbook_lib.rehearsal.supervisor import Program

SAMPLE = named(NAME)
FEATURE = "FEAT-2025-20251103111429"
RELEASE = "v1.4.0"
FAULTS = tuple(SAMPLE.faults.values())
SOUND = SAMPLE.faults["none"]


def create_backend(directory: Path, fault: Fault) -> None:
    create(SAMPLE, "backend", directory, fault)


def create_frontend(directory: Path, fault: Fault) -> None:
    create(SAMPLE, "frontend", directory, fault)


def application_programs(running: Stack) -> list[Program]:
    """Backend, frontend and worker, as supervisord runs them."""
    return running.described.services.programs(running.environment)
