"""PostgreSQL behind the store ports."""
