-- What a placement asks for and what it looks at: hypervisor, pressure, custom properties, reservations.
-- Properties are text by key, of a node, of an OSF or of a VM; a VM's own value wins over its OSF's. Those whose key
-- begins with qvd.placement. are rules: docs/placement.md.
-- compatible: 1

ALTER TABLE osfs ADD hypervisor text CHECK (hypervisor <> '');
COMMENT ON COLUMN osfs.hypervisor IS 'driver that its VMs need, as in vm.hypervisor; NULL: any';

ALTER TABLE host_runtimes
    ADD hypervisor text CHECK (hypervisor <> ''),
    ADD cpu_pressure real CHECK (cpu_pressure BETWEEN 0 AND 100),
    ADD memory_pressure real CHECK (memory_pressure BETWEEN 0 AND 100);
COMMENT ON COLUMN host_runtimes.hypervisor IS 'driver of the node that registered last; NULL: it did not say';
COMMENT ON COLUMN host_runtimes.cpu_pressure IS 'per cent of 10 s in which work waited for a processor; NULL: unknown';
COMMENT ON COLUMN host_runtimes.memory_pressure IS 'per cent of 10 s in which all work waited for memory; NULL: unknown';

CREATE TABLE host_properties (
    host_id     integer NOT NULL REFERENCES hosts ON DELETE CASCADE,
    key         text NOT NULL CHECK (key <> ''),
    value       text NOT NULL,
    PRIMARY KEY (host_id, key)
);

CREATE TABLE osf_properties (
    osf_id      integer NOT NULL,
    tenant_id   integer NOT NULL,
    key         text NOT NULL CHECK (key <> ''),
    value       text NOT NULL,
    PRIMARY KEY (osf_id, key),
    FOREIGN KEY (osf_id, tenant_id) REFERENCES osfs (id, tenant_id) ON DELETE CASCADE
);
CREATE INDEX osf_properties_key ON osf_properties (tenant_id, key);

CREATE TABLE vm_properties (
    vm_id       integer NOT NULL,
    tenant_id   integer NOT NULL,
    key         text NOT NULL CHECK (key <> ''),
    value       text NOT NULL,
    PRIMARY KEY (vm_id, key),
    FOREIGN KEY (vm_id, tenant_id) REFERENCES vms (id, tenant_id) ON DELETE CASCADE
);
CREATE INDEX vm_properties_key ON vm_properties (tenant_id, key);
CREATE INDEX vms_osf ON vms (osf_id);

-- What a VM holds of its node's memory, from its binding to its release: what it was started with, whatever becomes of
-- its OSF meanwhile. Beside host_id, so that the sums of all nodes are one short look into one index.
ALTER TABLE vm_runtimes ADD reserved_ram bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN vm_runtimes.reserved_ram IS 'bytes of its node; 0 where it has none';
UPDATE vm_runtimes r SET reserved_ram = o.memory
    FROM vms v JOIN osfs o ON o.id = v.osf_id WHERE v.id = r.vm_id AND r.host_id IS NOT NULL;

CREATE FUNCTION vm_runtimes_reserve() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.reserved_ram := CASE WHEN NEW.host_id IS NULL THEN 0 ELSE
        (SELECT o.memory FROM vms v JOIN osfs o ON o.id = v.osf_id WHERE v.id = NEW.vm_id) END;
    RETURN NEW;
END $$;
CREATE TRIGGER vm_runtimes_reserve_first BEFORE INSERT ON vm_runtimes
    FOR EACH ROW WHEN (NEW.host_id IS NOT NULL) EXECUTE FUNCTION vm_runtimes_reserve();
CREATE TRIGGER vm_runtimes_reserve BEFORE UPDATE OF host_id ON vm_runtimes
    FOR EACH ROW WHEN (NEW.host_id IS DISTINCT FROM OLD.host_id) EXECUTE FUNCTION vm_runtimes_reserve();

CREATE INDEX vm_runtimes_reserved ON vm_runtimes (host_id) INCLUDE (reserved_ram) WHERE host_id IS NOT NULL;
DROP INDEX vm_runtimes_host;

GRANT SELECT ON host_properties, osf_properties, vm_properties TO qvd_node, qvd_api;
GRANT INSERT, UPDATE, DELETE ON host_properties, osf_properties, vm_properties TO qvd_api;
