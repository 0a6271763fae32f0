"""From waveforms to rows in the cache: what features depend on, encoding, reduction, storage."""
