"""Telling people and programs what happened: notices, channels, deliveries, the digest of the day."""
