"""A run without a person: its notebooks executed one after another, with papermill."""
