"""What is left of a run for its readers: the rollback log, the report, and the seal over all files."""

from runbook_lib.report.manifest import SEALED, Problem, seal, verify
from runbook_lib.report.report import load, write_log, write_report

__all__ = ["SEALED", "Problem", "load", "seal", "verify", "write_log", "write_report"]
