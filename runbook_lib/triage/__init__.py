"""From symptoms to a rollback type, by the plan's decision matrix."""
