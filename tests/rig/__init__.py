"""A private world for tests that start containers and virtual machines, and the plugin that runs them there."""
