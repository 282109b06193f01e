"""What is kept of runs: records, areas, folders, locks, where they come from.

May import: declare.
"""
