"""Throughput figures that are comparable from run to run."""
