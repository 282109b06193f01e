"""Our networks and classifiers compared with reference values of the authors' code.

May import: declare and ssa only.
"""
