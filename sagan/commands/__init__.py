"""The command line: one file a verb, with its options, help, checks and entry. `app.py` lists the verbs.

Verbs import what loads torch inside their functions, so that help and mistakes are answered at once.
"""
