"""The bank of probes: stacked members, their batches, heads and optimiser, and what is kept of it."""
