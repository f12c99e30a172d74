"""Where the project's own files are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PLAN = ROOT / "parameters" / "feat-2025-20251103111429.yaml"
TARGET = ROOT / "parameters" / "rehearsal.yaml"
