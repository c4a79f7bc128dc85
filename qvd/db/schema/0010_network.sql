-- The VM network: one range for the whole installation, and each VM's place in it. docs/decisions/0020.
-- Addresses are given by the database itself, one creation after the other, so that two at a time never want the same
-- one. A MAC is made of the VM's id, so it is unique and never changes.
-- compatible: 1

CREATE TABLE vm_network (
    single      boolean PRIMARY KEY DEFAULT true CHECK (single),
    network     cidr NOT NULL CHECK (family(network) = 4 AND masklen(network) BETWEEN 8 AND 29),
    vms_from    inet NOT NULL,
    gateway     inet,
    dns         inet CHECK (family(dns) = 4 AND masklen(dns) = 32),
    last_given  inet,
    CHECK (masklen(vms_from) = 32 AND vms_from << network AND vms_from > set_masklen(network::inet, 32) + 1
        AND vms_from < set_masklen(broadcast(network), 32)),
    CHECK (gateway IS NULL OR (masklen(gateway) = 32 AND gateway << network
        AND gateway > set_masklen(network::inet, 32) AND gateway < set_masklen(broadcast(network), 32)))
);
COMMENT ON TABLE vm_network IS 'at most one row: qvd-db network';
COMMENT ON COLUMN vm_network.vms_from IS 'all before it is for nodes and services, all from it on for VMs';
COMMENT ON COLUMN vm_network.gateway IS 'way out of VMs; NULL: none, or the node of each';
COMMENT ON COLUMN vm_network.dns IS 'name server that VMs are told of';
COMMENT ON COLUMN vm_network.last_given IS 'the search goes on behind it, so that an address that is free again rests';

ALTER TABLE vms
    ADD COLUMN ip inet UNIQUE CHECK (family(ip) = 4 AND masklen(ip) = 32),
    ADD COLUMN mac macaddr UNIQUE GENERATED ALWAYS AS (('0251' || lpad(to_hex(id), 8, '0'))::macaddr) STORED;
COMMENT ON COLUMN vms.ip IS 'in the VM part of vm_network; NULL: there is no VM network';
COMMENT ON COLUMN vms.mac IS 'locally administered; the second byte is a Q';

-- Whether a VM may have the address.
CREATE FUNCTION is_vm_address(plan vm_network, address inet) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT address >= plan.vms_from AND address < set_masklen(broadcast(plan.network), 32)
        AND address IS DISTINCT FROM plan.gateway AND address IS DISTINCT FROM plan.dns
$$;

-- The next free address from the given one on: that one, or one that follows a taken one.
CREATE FUNCTION free_vm_address(plan vm_network, beginning inet) RETURNS inet LANGUAGE sql STABLE AS $$
    SELECT c.address FROM (
        SELECT beginning AS address
        UNION ALL SELECT v.ip + 1 FROM vms v WHERE v.ip >= beginning
        UNION ALL SELECT taken + 1 FROM unnest(ARRAY[plan.gateway, plan.dns]) AS taken WHERE taken >= beginning
    ) c
    WHERE is_vm_address(plan, c.address) AND NOT EXISTS (SELECT FROM vms v WHERE v.ip = c.address)
    ORDER BY c.address LIMIT 1
$$;

-- The row of vm_network is locked until the end of the transaction: whoever creates a VM waits for who did before. It
-- is written, so that a transaction that cannot see what the other one did fails and is repeated.
CREATE FUNCTION give_vm_address() RETURNS inet LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    plan vm_network;
    given inet;
BEGIN
    SELECT * INTO plan FROM vm_network FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    given := coalesce(plan.last_given + 1, plan.vms_from);
    -- Mostly that one is free; the look at all of them is for when it is not.
    IF NOT is_vm_address(plan, given) OR EXISTS (SELECT FROM vms WHERE ip = given) THEN
        given := coalesce(free_vm_address(plan, given), free_vm_address(plan, plan.vms_from));
    END IF;
    IF given IS NULL THEN
        RAISE EXCEPTION 'The VM network % has no free address from % on: remove VMs, or make the range larger'
            ' (qvd-db network)', plan.network, host(plan.vms_from) USING ERRCODE = 'program_limit_exceeded';
    END IF;
    UPDATE vm_network SET last_given = given;
    RETURN given;
END $$;
REVOKE ALL ON FUNCTION give_vm_address() FROM PUBLIC;

CREATE FUNCTION vms_address() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    plan vm_network;
BEGIN
    IF NEW.ip IS NULL THEN
        NEW.ip := give_vm_address();
        RETURN NEW;
    END IF;
    SELECT * INTO plan FROM vm_network FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'There is no VM network yet: set its range with qvd-db network' USING ERRCODE = 'check_violation';
    END IF;
    IF NOT is_vm_address(plan, NEW.ip) THEN
        RAISE EXCEPTION 'The address % is none for a VM: those are in % from % on, but neither the last one, nor that'
            ' of the gateway or the name server', host(NEW.ip), plan.network, host(plan.vms_from)
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER vms_address_first BEFORE INSERT ON vms FOR EACH ROW EXECUTE FUNCTION vms_address();
CREATE TRIGGER vms_address BEFORE UPDATE OF ip ON vms FOR EACH ROW
    WHEN (NEW.ip IS DISTINCT FROM OLD.ip) EXECUTE FUNCTION vms_address();

CREATE FUNCTION vm_network_first() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    -- A VM that is just being created without an address is waited for.
    LOCK TABLE vms IN SHARE ROW EXCLUSIVE MODE;
    RETURN NEW;
END $$;
CREATE TRIGGER vm_network_first BEFORE INSERT ON vm_network FOR EACH ROW EXECUTE FUNCTION vm_network_first();

CREATE FUNCTION vm_network_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    outside record;
    waiting record;
BEGIN
    SELECT name, ip INTO outside FROM vms WHERE ip IS NOT NULL AND NOT is_vm_address(NEW, ip) ORDER BY ip LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'The VM "%" has the address %, which the range % from % on has no place for: remove it, or give it'
            ' another address first', outside.name, host(outside.ip), NEW.network, host(NEW.vms_from)
            USING ERRCODE = 'check_violation';
    END IF;
    FOR waiting IN SELECT id FROM vms WHERE ip IS NULL ORDER BY id LOOP
        UPDATE vms SET ip = give_vm_address() WHERE id = waiting.id;
    END LOOP;
    INSERT INTO events (kind, before, after, cause)
    VALUES ('network.range', CASE WHEN TG_OP = 'UPDATE' THEN to_jsonb(OLD) END, to_jsonb(NEW),
            nullif(current_setting('qvd.cause', true), ''));
    RETURN NULL;
END $$;
CREATE TRIGGER vm_network_changed AFTER INSERT OR UPDATE OF network, vms_from, gateway, dns ON vm_network
    FOR EACH ROW EXECUTE FUNCTION vm_network_changed();

GRANT SELECT ON vm_network TO qvd_node, qvd_api;
GRANT INSERT (network, vms_from, gateway, dns), UPDATE (network, vms_from, gateway, dns) ON vm_network TO qvd_api;
