"""The administration daemon, for C{twistd}."""

from twisted.application.service import ServiceMaker

admin = ServiceMaker("QVD administration", "qvd.admin.tap", "REST API for administrators", "qvd-admin")
