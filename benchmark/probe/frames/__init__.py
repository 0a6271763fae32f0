"""Probes of frames: inputs by chunks, the bank, the answers of whole tracks."""
