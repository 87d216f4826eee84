"""Ablations: many runs that each differ in one thing, and what their scores do and do not show.

Read in this order: `plan` and `variants` (the question and its runs), `jobs` and `executors` (a process for each run),
`outcomes` and `results` (from records to tables), `statistics` and `verdicts` (what differences show), `power` (what
they could show), `comparison`, `sections`, `plots` and `report` (for people), `running` (progress of the runs).
"""
