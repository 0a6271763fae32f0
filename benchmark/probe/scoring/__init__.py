"""Scores of answers: metrics, intervals over tracks, decoders of frames."""
