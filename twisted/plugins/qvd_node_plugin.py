"""The node daemon, for C{twistd}."""

from twisted.application.service import ServiceMaker

node = ServiceMaker("QVD node", "qvd.hkd.tap", "House keeping daemon and level 7 router of a server node", "qvd-node")
