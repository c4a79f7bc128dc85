"""Real PostgreSQL, nxagent, nxproxy and bubblewrap."""
