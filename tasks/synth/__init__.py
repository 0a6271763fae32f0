"""Tasks that marble composes and renders itself, so that their truth is exact."""
