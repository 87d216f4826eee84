"""Training: the loop, the steps of both networks, their losses, resuming, diagnostics."""
