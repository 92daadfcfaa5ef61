"""Simulator and digital twin of a Clawland fleet: scenarios, virtual and live worlds, verdicts."""
