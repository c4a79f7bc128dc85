Images of containers (tar, plain or compressed by gzip, bzip2, xz or zstd) are unpacked once for all nodes into
`path.storage.bases`, by a process that can write nothing else, after their registered checksum; `vm.lxc.storage` chooses
overlayfs or btrfs for the writable layers.
