``qvd-sim run FILE`` simulates a day of a whole farm in one process: the real node, router and placement over simulated
machines, guests and users, and a real PostgreSQL. It reports the time to desktop, queues, refusals, the load of the
database, and whether one VM or home was ever on two nodes.
