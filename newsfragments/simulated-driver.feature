``vm.hypervisor = "simulated"``: a driver for load tests whose VMs live in the node daemon and only answer.
