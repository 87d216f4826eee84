"""Ablations: many runs that differ in one thing each, and what their scores do and do not show.

Read in this order: `plan` (what is asked), `jobs` and `executors` (one process a run), `results` (records to tables),
`statistics` (intervals), `report` and `plots` (for people), `command` (the way in).
"""
