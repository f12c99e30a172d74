"""Runs the application's statements on a clone before and after a change, rolls each back, and names what fails since.

`statement` parses a statement, `sample` copies a few rows into a clone, `outside` finds what may act outside the database,
`values` draws parameters from rows, `trial` runs and compares.
"""
