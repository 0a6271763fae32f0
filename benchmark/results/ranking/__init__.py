"""Ranks of upstreams: the leaderboard, its text, ties and intervals of ranks."""
