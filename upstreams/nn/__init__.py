"""The layers that upstreams are built from."""
