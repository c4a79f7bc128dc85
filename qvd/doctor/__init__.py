"""Looks at a node, an administration or a whole installation, and says what is wrong and how to mend it."""
