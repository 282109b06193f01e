"""From what was asked to runs: which there are, which are missing or blocked, how long they take.

May import: store, declare.
"""
