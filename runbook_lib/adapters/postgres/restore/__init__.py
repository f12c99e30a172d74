"""What a restore from a backup would lose, and how what was written since is carried over."""
