"""Benchmarks: one file a question, run as `python -m benchmarks.<question>` from the repository's root."""
