"""The daemons of QVD, for C{twistd}: one line each."""

from twisted.application.service import ServiceMaker

node = ServiceMaker("QVD node", "qvd.hkd.tap", "House keeping daemon and level 7 router of a server node", "qvd-node")
vma = ServiceMaker("QVD guest agent", "qvd.agent.tap", "Agent inside a virtual machine", "qvd-vma")
