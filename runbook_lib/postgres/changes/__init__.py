"""Finds what migrations changed in a database, and undoes it by a three-way merge of before, after and live."""
