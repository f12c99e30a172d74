"""Execute the notebooks of a run without a person, one after another, with papermill."""
