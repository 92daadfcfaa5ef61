"""Benchmarks take their counts from where the tests do."""

from tests.conftest import full

__all__ = ["full"]
