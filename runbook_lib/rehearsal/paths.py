"""The plan and the target that rehearsals carry out, and where their runs go."""

from runbook_lib.parameters import ROOT

PLAN = ROOT / "parameters" / "feat-2025-20251103111429.yaml"
TARGET = ROOT / "parameters" / "rehearsal.yaml"
OUTPUTS = ROOT / "outputs"
