"""Alarms that keep a promise: evidence that stays valid at every look, and how often it may be wrong."""
