"""What lies in a run directory: log, records, checkpoints, the best one, and networks and scores read back from it."""
