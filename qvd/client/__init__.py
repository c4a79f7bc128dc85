"""A small command line client that dials the L7R as a user."""
