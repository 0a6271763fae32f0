"""Targets of pretraining: features of the clean audio and their quantisers."""
