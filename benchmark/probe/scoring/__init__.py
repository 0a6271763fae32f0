"""What answers are worth: metrics, intervals over tracks, decoders of frames."""
