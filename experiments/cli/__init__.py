"""The verbs and options behind run_all.sh; it prints and decides nothing.

May import: every other room.
"""
