"""Numbered migrations, as SQL files."""
