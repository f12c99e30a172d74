"""Take a feature out of a git history: which commits are its own, what is left of them, the code without them."""
