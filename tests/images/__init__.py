"""Disk images, built for real."""
