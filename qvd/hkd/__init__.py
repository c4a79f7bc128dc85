"""The node daemon: owns the life of the VMs assigned to the node."""
