"""Recovers the state just before a migration's commit from a base backup and the WAL since."""
