"""Kills a rollback at every event of its journal, runs the same command again, and compares how it ends."""
