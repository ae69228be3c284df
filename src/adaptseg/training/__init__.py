"""The loop and what keeps it safe: checkpoints, resuming, signals, the lock, the log, trackers, the dry run."""
