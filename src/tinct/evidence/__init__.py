"""Grids of transfers, and what their records say: intervals, findings, sentences."""
