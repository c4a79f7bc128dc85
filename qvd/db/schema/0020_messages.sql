-- Messages of administrators to whoever sits at a VM's desktop: kept until the VM's node has handed them over, or for a
-- few minutes. A node of an older release never takes them up, and they are gone then. And the properties of VMs as
-- their guests are told of them.
-- compatible: 1

CREATE TABLE vm_messages (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   integer NOT NULL,
    vm_id       integer NOT NULL,
    session_id  uuid NOT NULL,
    host_id     integer NOT NULL REFERENCES hosts ON DELETE CASCADE,
    text        text NOT NULL CHECK (length(text) BETWEEN 1 AND 1000),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    cause       text DEFAULT nullif(current_setting('qvd.cause', true), ''),
    FOREIGN KEY (vm_id, tenant_id) REFERENCES vms (id, tenant_id) ON DELETE CASCADE,
    FOREIGN KEY (session_id, vm_id) REFERENCES sessions (id, vm_id) ON DELETE CASCADE
);
COMMENT ON COLUMN vm_messages.session_id IS 'whom it is for: nobody else reads it';
COMMENT ON COLUMN vm_messages.host_id IS 'node that runs the VM';
CREATE INDEX vm_messages_host ON vm_messages (host_id, id);
CREATE INDEX vm_messages_vm ON vm_messages (vm_id);

CREATE FUNCTION vm_messages_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('qvd_messages_on_host_' || NEW.host_id, '');
    RETURN NULL;
END $$;
CREATE TRIGGER vm_messages_added AFTER INSERT ON vm_messages FOR EACH ROW EXECUTE FUNCTION vm_messages_added();

GRANT SELECT, INSERT, DELETE ON vm_messages TO qvd_api;
GRANT SELECT, DELETE ON vm_messages TO qvd_node;

-- What the guest of a VM is told of its properties. Nodes need not know what is a secret: they are not told of any.
CREATE FUNCTION vm_parameters_of(vm integer) RETURNS TABLE (key text, value text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT p.key, p.value FROM vms v, vm_properties_of(v.id) p WHERE v.id = vm AND NOT EXISTS (
        SELECT FROM properties d WHERE d.key = p.key AND d.tenant_id IN (0, v.tenant_id) AND d.type = 'secret'
    )
$$;
REVOKE ALL ON FUNCTION vm_parameters_of(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION vm_parameters_of(integer) TO qvd_node;
