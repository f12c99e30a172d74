"""Stopping, starting and watching services, whatever manages them."""

from runbook_lib.adapters.services.connect import connect
from runbook_lib.adapters.services.memory import MemoryServices
from runbook_lib.adapters.services.protocol import Services

__all__ = ["MemoryServices", "Services", "connect"]
