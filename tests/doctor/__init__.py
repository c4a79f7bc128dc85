"""Tests of the doctor: broken set-ups, each really broken."""
