"""Tests of the web panel without a browser."""
