"""What a notebook shows during a run: output, widgets, questions and controls."""
