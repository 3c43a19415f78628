"""Data set snapshots of what was reviewed: recipe, building, differences, lineage."""
