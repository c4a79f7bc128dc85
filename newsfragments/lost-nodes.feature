A node that dies or hangs is noticed by the others: its desktops can be started elsewhere about 40 s after its last sign
of life (``hkd.cluster.interval``, ``hkd.cluster.margin``), and who waits for one gets it elsewhere at once.
