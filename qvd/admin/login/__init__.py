"""How administrators log in, what they show afterwards, and what they change of their own account."""
