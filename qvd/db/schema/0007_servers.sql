-- Which servers the nodes have had for their database: docs/decisions/0015. After a fail-over that forgets its last
-- seconds, a VM that looks free may run: nobody starts one before each node has said on the new server what it has, or
-- is known to have given it up.
-- compatible: 1

ALTER TABLE host_runtimes ADD COLUMN server text;
COMMENT ON COLUMN host_runtimes.server IS
    'start of the server on which the node last accounted for all that it runs; null: it never ran anything';

CREATE TABLE servers (
    server      text PRIMARY KEY,
    since       timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE servers IS 'starts of the database server, and when a node first reached it then';

GRANT SELECT ON servers TO qvd_node, qvd_api;
GRANT INSERT ON servers TO qvd_node;
