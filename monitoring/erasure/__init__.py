"""Erasing records by id from every copy that there is."""
