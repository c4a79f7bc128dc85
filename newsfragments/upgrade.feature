A node is upgraded while it is at work: a new `qvd-node` process, started on `SIGHUP` or by hand, takes over the listening
sockets and the VMs; the old one keeps the sessions it has until they end, or for `hkd.upgrade.drain` seconds.
