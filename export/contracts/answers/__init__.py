"""What answers of other tasks than one-of-several classes mean: read by role, scored, and compared with the truth.

Pure functions over arrays; the reference compiler (`export.reference_answers`) and the monitor (`monitoring.tasks`)
call the same ones.
"""
