"""What the runbook asks of PostgreSQL: the only place that knows its SQL."""
