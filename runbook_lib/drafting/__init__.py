"""Drafts a whole plan from a target: what of a feature is found there, and what a person has to decide. Read-only there."""
