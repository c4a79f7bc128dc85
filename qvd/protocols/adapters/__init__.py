"""The Twisted side of the wires: short protocols that move bytes and own timeouts."""
