"""Remove a backfill's values from a table, by one of three strategies with the same result; each can be undone."""
