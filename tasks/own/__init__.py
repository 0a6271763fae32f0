"""Tasks over the user's own data: folders, tables, manifests."""
