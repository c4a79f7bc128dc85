"""What is on the wires, as values; no Twisted outside L{qvd.protocols.adapters}."""
