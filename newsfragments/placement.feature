A node is chosen by free memory, idle processors and chance, weighted by `l7r.loadbalancer.plugin.default.weight.*`;
`qvd-node explain VM` tells what was found of each node, also when none could take the VM.
