"""A run and what is done with it: lifecycle, engine, approval, lease, recovery, undo and cleanup."""
