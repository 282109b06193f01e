"""Tables, plans and progress as text: console, CSV, Markdown, LaTeX, JSON.

May import: launch and below.
"""
