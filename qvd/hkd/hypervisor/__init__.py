"""Drivers: boot, shut down, kill, list; nothing else."""
