"""Find a feature's commits in a git history, what is left of them, and the code without them."""
