"""A whole farm in one process: real nodes over simulated machines, guests and users."""
