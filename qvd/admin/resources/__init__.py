"""The resources of the administration, a module each."""
