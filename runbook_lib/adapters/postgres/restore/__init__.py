"""Bringing back what a dump holds: into a database aside, compared with the live one, and put in its place by renaming."""
