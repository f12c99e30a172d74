"""What the runbook asks of git, through its own command line."""

from runbook_lib.adapters.git.checkout import Checkout, Commit
from runbook_lib.adapters.git.remote import Remote

__all__ = ["Checkout", "Commit", "Remote"]
