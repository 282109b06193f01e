"""What can be declared (tables, rows, models, profiles, protocols, figures, claims),
read and checked.

May import: nothing of ours but the root of experiments and ssa.
"""
