"""Ablations: many runs that differ in one thing each, and what their scores do and do not show.

Read in this order: `plan` and `variants` (what is asked), `jobs` and `executors` (processes for each run), `outcomes`
and `results` (records to tables), `statistics` and `verdicts` (what differences show), `power` (what they could show),
`comparison`, `sections`, `plots` and `report` (for people), `running` (the runs under way).
"""
