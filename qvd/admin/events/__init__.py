"""Events: what changes, told to those who watch as it changes, and to each only what is theirs to see."""
