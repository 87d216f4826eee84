"""The command line: one file per verb, with its options, help, checks and entry. `app.py` lists the verbs.

Verbs import modules that load torch inside their functions, so that help and errors appear at once.
"""
