"""What is kept of a run: its folder, the append-only journal, and the state that a replay of it gives."""
