"""The administration API, in process, on a real PostgreSQL."""
