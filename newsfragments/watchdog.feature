A node that cannot renew its lease kills its VMs before another node may start them, also when the daemon is stopped,
stuck or gone: a watchdog process outlives it.
