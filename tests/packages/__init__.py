"""Debian packages, built, installed in a Debian of their own, and purged."""
