"""The engineer's seat: copies of the notebooks in a run folder, and a JupyterLab that shows nothing else."""
