"""Questions about what is stored: why, explain, diff, status, pandas frames.

May import: show and below.
"""
