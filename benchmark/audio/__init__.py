"""From audio files to waveforms and windows: decoding, what containers promise, worker processes."""
