"""Restore a backup: into a staging database, compare, salvage newer rows into it, and cut over from the live database."""
