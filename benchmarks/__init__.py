"""Timings and memory of the project's own parts, kept as JSON."""
