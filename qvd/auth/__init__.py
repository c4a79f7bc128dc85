"""Authenticators: one way to prove who you are each."""
