"""Containers and virtual machines, for real, in a private world."""
