"""The loading of weights: from the hub or a folder into an upstream."""
