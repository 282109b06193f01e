"""Where runs go: the processes that train a plan.

May import: judge and below.
"""
