"""People: who uses console and API, and what each may do."""
