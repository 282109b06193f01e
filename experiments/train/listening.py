"""Importing this keeps the source of all that is imported later (experiments/store/loaded.py)."""

from experiments.store.loaded import listen

listen()
