"""Decisions without I/O: no Twisted, no clock, no random numbers."""
