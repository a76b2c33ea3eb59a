"""Damage, and whether the examination sees it: `python -m tests.damage` prints the table."""
