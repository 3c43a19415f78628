"""Runtimes: one loaded weights file on one device, behind one small protocol."""
