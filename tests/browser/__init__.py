"""The web panel, in a real browser."""
