"""What is left of a run for its readers: the rollback log, the report, and the seal over all files."""

from runbook_lib.archive.log import write_log
from runbook_lib.archive.manifest import Problem, seal, verify
from runbook_lib.archive.report import write_report

__all__ = ["Problem", "seal", "verify", "write_log", "write_report"]
