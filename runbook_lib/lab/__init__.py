"""`runbook lab`: copies of the notebooks in a run folder, and a JupyterLab that shows only these."""
