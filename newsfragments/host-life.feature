Nodes have a life: a machine becomes one with a single-use token (`qvd-db enrolment-token`, `qvd-node enrol`), and
`qvd-node status`, `block`, `unblock`, `drain`, `undrain` and `decommission` show and command them. See `docs/nodes.md`.
