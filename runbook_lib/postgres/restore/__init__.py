"""Going back to a backup: restored to a staging database, compared, salvaged into, put in the live one's place."""
