"""One upstream on one task, many pairs of them, and what they would cost."""
