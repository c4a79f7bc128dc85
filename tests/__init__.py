"""Tests of QVD."""
