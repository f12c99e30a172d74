"""Draft a whole plan from a target: what exists of a feature, and what a person must decide. The target is only read."""
