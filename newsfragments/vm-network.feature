The reserved range of the VM network is set with `qvd-db network`; the database gives each VM an address in it and a MAC of its own.
