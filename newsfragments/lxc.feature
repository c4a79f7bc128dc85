VMs can be containers (`vm.hypervisor = "lxc"`): with a user namespace, limits for memory, processors and processes from
their OSF, and a root file system that no mount of the node shows. `vm.lxc.config_extra` adds lines for liblxc.
