"""How upstreams are trained: masks, targets, quantisers, objectives, recipes and the trainer."""
