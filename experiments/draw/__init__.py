"""What figures need of runs, and the drawing of them by analysis.

May import: ask and below.
"""
