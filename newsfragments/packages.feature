`make deb` builds Debian packages: qvd-common, qvd-node, qvd-admin, qvd-vma and qvd-client, with units for systemd.
The node tells systemd's watchdog that it is well, and is started anew when it is not.
