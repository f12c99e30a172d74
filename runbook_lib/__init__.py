"""An interactive rollback runbook: plans as data, steps that are previewed, probed, applied, verified and journaled."""
