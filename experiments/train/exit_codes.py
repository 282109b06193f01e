"""A training process's exit codes beside 0 (the record is there) and 1 (it failed)."""

UNWRITABLE = 74  # EX_IOERR: the run's folder takes nothing more
BUSY = 75  # EX_TEMPFAIL: another process trains this run
