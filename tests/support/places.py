"""Where the project's own files are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PLAN = ROOT / "parameters" / "feat-2025-20251103111429.yaml"
WRITTEN_OUT = Path(__file__).parent / "plans" / "first-written-out.yaml"  # the same without `extends`
TARGET = ROOT / "parameters" / "rehearsal.yaml"
