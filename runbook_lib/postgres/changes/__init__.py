"""What migrations changed in a database, and how it is taken back: a three-way merge of before, after and live."""
