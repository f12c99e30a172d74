"""Run git through its own command line."""

from runbook_lib.git.checkout import Checkout, Commit, PushRefused, Remote

__all__ = ["Checkout", "Commit", "PushRefused", "Remote"]
