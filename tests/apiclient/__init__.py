"""The client of the API, against the API."""
