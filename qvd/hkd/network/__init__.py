"""The VM network on a node: bridge, filters, DHCP."""
