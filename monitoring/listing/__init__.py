"""The case list: filters, search, sorts, counts and exports over a million cases.

Every question is answered from columns of all cases that are held in memory (`columns`); what is shown is then read
from the database by id. `docs/decisions/0156-case-lists-from-columns.md` has the measurements.
"""
