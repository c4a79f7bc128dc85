"""Jobs: what takes longer than a call."""
