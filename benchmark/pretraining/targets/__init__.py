"""What pretraining predicts: features of the clean audio and their quantisers."""
