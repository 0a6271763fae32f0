"""From audio files to waveforms and windows: decoding, container headers, worker processes."""
