-- How much a tenant may have: users, VMs, VMs that run. A node of an older release starts VMs beyond the last.
-- compatible: 1

CREATE TABLE tenant_quotas (
    tenant_id   integer PRIMARY KEY REFERENCES tenants ON DELETE CASCADE CHECK (tenant_id >= 0),
    users       integer CHECK (users >= 0),
    vms         integer CHECK (vms >= 0),
    running_vms integer CHECK (running_vms >= 0)
);
COMMENT ON TABLE tenant_quotas IS 'NULL, and no row: as many as there is room for';
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant_quotas TO qvd_api;
GRANT SELECT ON tenant_quotas TO qvd_node;

-- Who counts waits until whoever has counted just before is done: two at a time would both find the last place free.
CREATE FUNCTION tenant_quota_check() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    most integer;
    present bigint;
BEGIN
    EXECUTE format('SELECT %I FROM tenant_quotas WHERE tenant_id = $1', TG_TABLE_NAME) INTO most USING NEW.tenant_id;
    IF most IS NULL THEN
        RETURN NEW;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('qvd quota ' || TG_TABLE_NAME), NEW.tenant_id);
    EXECUTE format('SELECT count(*) FROM %I WHERE tenant_id = $1', TG_TABLE_NAME) INTO present USING NEW.tenant_id;
    IF present >= most THEN
        RAISE EXCEPTION 'The tenant may have % %, and has %', most, TG_ARGV[0], present
            USING ERRCODE = 'program_limit_exceeded';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER users_quota BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION tenant_quota_check('users');
CREATE TRIGGER vms_quota BEFORE INSERT ON vms FOR EACH ROW EXECUTE FUNCTION tenant_quota_check('VMs');
