"""What `runbook init` writes into a team's repository, from what it finds there."""
