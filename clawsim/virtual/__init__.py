"""The virtual world: every tier's core on one SimPy clock, real encoded bytes on every link."""
