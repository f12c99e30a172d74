"""Runs the application's statements on a clone before and after a change, each rolled back, and names what then fails.

`statement` reads a statement, `sample` copies a few rows into a clone, `outside` finds what may act elsewhere, `values`
draws parameters from rows, `trial` runs and compares.
"""
