"""Recorder fakes that provide the ports and can misbehave on request."""
