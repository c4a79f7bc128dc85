"""A farm as a document: what is wanted, how that differs from what is there, and the calls that make it so.

Nothing here speaks to a server: what reads and what calls come in as arguments.
"""
