"""P(wrong), fitted again as labels arrive.

`sample` takes the labelled records that may be learnt from, `refit` decides (pure), `rows` stores every decision with
its evidence, `clock` says when a refit is due and which records must wait for it, `book` gives scoring the fit that was
in force at a record's time. All of it is a function of the log: a fit uses labels given before a whole multiple of
`refit_s` of event time, and holds for records from `hold_s` after it (docs/decisions/0097).
"""
