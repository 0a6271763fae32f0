"""Jobs: one upstream on one task, many pairs of them, and their cost in advance."""
