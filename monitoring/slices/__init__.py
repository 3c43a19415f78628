"""Slices: groups of records on which a version fails more than elsewhere, found by attributes and by embeddings."""
