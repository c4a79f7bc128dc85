"""The guest agent, for C{twistd}. A file of its own: the guest's package has no node."""

from twisted.application.service import ServiceMaker

vma = ServiceMaker("QVD guest agent", "qvd.agent.tap", "Agent inside a virtual machine", "qvd-vma")
