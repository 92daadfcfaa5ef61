"""Bugs planted on purpose, one at a time: each check must catch the bug that it exists for."""
