-- Order of arrival, for queues that are first come first served; and failures in a row, for VMs that crash in a loop.
-- compatible: 1

ALTER TABLE vm_runtimes
    ADD ordered_at timestamptz NOT NULL DEFAULT now(),
    ADD failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    ADD retry_at timestamptz;
COMMENT ON COLUMN vm_runtimes.ordered_at IS 'when the newest order was given';
COMMENT ON COLUMN vm_runtimes.failures IS 'starts that failed, and runs that ended by themselves soon, in a row';
COMMENT ON COLUMN vm_runtimes.retry_at IS 'the VM is not started before this';

CREATE FUNCTION vm_runtimes_ordered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.ordered_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER vm_runtimes_ordered BEFORE UPDATE OF generation ON vm_runtimes
    FOR EACH ROW WHEN (OLD.generation IS DISTINCT FROM NEW.generation) EXECUTE FUNCTION vm_runtimes_ordered();

GRANT UPDATE (failures, retry_at) ON vm_runtimes TO qvd_api;
