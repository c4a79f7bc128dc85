"""The C{lxc} driver: containers."""
