"""One run, from its spec to its record.

May import: plan and below.
"""
