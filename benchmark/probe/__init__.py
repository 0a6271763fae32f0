"""From cached features to scored answers: protocol, heads, the training loop, metrics, intervals."""
