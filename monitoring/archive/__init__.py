"""Sealed, consumed segments as Parquet: written once, read by people's tools, rewritten only to erase."""
