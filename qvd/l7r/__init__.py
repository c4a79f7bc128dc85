"""The level 7 router: from a client's first byte to the relayed NX session."""
