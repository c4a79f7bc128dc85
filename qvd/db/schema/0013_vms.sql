-- What administrators order of VMs: to end a session, to end a VM without asking it, to start it again once it is down.
-- A node of an older release does not heed the first two: the session goes on, and the VM is asked to power off.
-- compatible: 1

ALTER TABLE sessions ADD COLUMN end_wanted text CHECK (end_wanted <> '');
COMMENT ON COLUMN sessions.end_wanted IS 'why its node is to end it; NULL: it may go on';

CREATE FUNCTION sessions_end_wanted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (kind, tenant_id, vm_id, user_id, host_id, session_id, after, cause)
    VALUES ('session.end_wanted', NEW.tenant_id, NEW.vm_id, NEW.user_id, NEW.host_id, NEW.id,
            jsonb_build_object('end_wanted', NEW.end_wanted), nullif(current_setting('qvd.cause', true), ''));
    PERFORM pg_notify('qvd_session_on_host_' || NEW.host_id, '');
    RETURN NULL;
END $$;
CREATE TRIGGER sessions_end_wanted AFTER UPDATE OF end_wanted ON sessions FOR EACH ROW
    WHEN (NEW.ended_at IS NULL AND NEW.end_wanted IS DISTINCT FROM OLD.end_wanted)
    EXECUTE FUNCTION sessions_end_wanted();

ALTER TABLE vm_runtimes
    ADD COLUMN forced boolean NOT NULL DEFAULT false,
    ADD COLUMN restart boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN vm_runtimes.forced IS 'the order to stop does not ask the guest: it is killed';
COMMENT ON COLUMN vm_runtimes.restart IS 'once it has stopped its start is ordered';

-- Whoever releases the VM, and whenever: the wish to have it again is not lost with a node.
CREATE FUNCTION vm_runtimes_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.restart AND NEW.desired_state = 'stopped' THEN
        NEW.desired_state := 'running';
        NEW.generation := NEW.generation + 1;
        NEW.ordered_at := clock_timestamp();
    END IF;
    NEW.restart := false;
    NEW.forced := false;
    RETURN NEW;
END $$;
CREATE TRIGGER vm_runtimes_again BEFORE UPDATE OF vm_state ON vm_runtimes FOR EACH ROW
    WHEN (NEW.vm_state = 'stopped' AND OLD.vm_state <> 'stopped' AND (NEW.restart OR NEW.forced))
    EXECUTE FUNCTION vm_runtimes_again();

-- The history of a VM is paged by number.
CREATE INDEX events_vm_id ON events (vm_id, id);
DROP INDEX events_vm;

-- Lists of very many VMs, by what they are mostly sorted and narrowed by.
CREATE INDEX vms_name ON vms (name, id);
CREATE INDEX vms_tenant_name ON vms (tenant_id, name, id);
CREATE INDEX vms_created ON vms (created_at, id);
CREATE INDEX vm_runtimes_state ON vm_runtimes (vm_state, vm_id);

-- A VM is placed in the transaction that orders its start, so that whoever orders hears why it cannot be.
GRANT UPDATE (acked_generation, placement, forced, restart) ON vm_runtimes TO qvd_api;
GRANT UPDATE (end_wanted) ON sessions TO qvd_api;
