"""Going back to a backup: restored aside, compared with the live database, salvaged into, and put in its place by renaming."""
