What nothing in the storage refers to any more is collected: writable layers and unpacked images by the nodes themselves,
once a day, and homes of deleted VMs, through a trash folder, by `qvd-node garbage --homes`. Look first with `--dry-run`. See
`docs/nodes.md`.
