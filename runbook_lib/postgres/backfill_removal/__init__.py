"""Ways to take out of a table what a backfill wrote into it; each leaves the same rows, and a way back."""
