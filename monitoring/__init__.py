"""Monitoring: reads the record log, scores what it finds, keeps windows and failure cases, and shows them.

`monitoring.records` is the one part that serving imports: the record log itself.
"""
