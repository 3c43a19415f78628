"""Triggers: whether a model is to be trained again, decided by a pure function of the evidence and the clock."""
