"""Measurements; each module has `main(argv)`, prints a table and returns its rows."""
