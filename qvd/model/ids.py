"""Kinds of ids, so that one never passes for another."""

from typing import NewType

TenantId = NewType("TenantId", int)
UserId = NewType("UserId", int)
VMId = NewType("VMId", int)
HostId = NewType("HostId", int)
OSFId = NewType("OSFId", int)
DIId = NewType("DIId", int)
SessionId = NewType("SessionId", str)
"""A UUID in text: one client's hold on one VM, from claim to end."""
Epoch = NewType("Epoch", int)
"""Fencing token of a host's lease: grows by one each time the node registers."""
Generation = NewType("Generation", int)
"""Number of a desired state: grows by one with each order for a VM."""
Run = NewType("Run", int)
"""Number of a run of a VM: grows by one with each claim of its start."""
