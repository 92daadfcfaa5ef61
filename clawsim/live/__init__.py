"""The live world: the three tiers as real processes, with clocks scaled and faults applied from outside."""
