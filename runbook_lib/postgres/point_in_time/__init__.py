"""The state just before a migration's commit, out of a base backup and the WAL since."""
