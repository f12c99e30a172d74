"""Going back to a backup: restored aside, compared, salvaged into, and put in the live one's place by renaming."""
