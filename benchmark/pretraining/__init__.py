"""Pretraining of upstreams: masks, targets, quantisers, objectives, recipes and the trainer."""
