"""From stored runs to a table: medians, gains, claims, verdicts, complexity.

May import: train and below.
"""
