-- Which run of a VM a write is about. A write that was given up may be committed long after it was repeated, when the
-- same node, in the same epoch, has the VM's next run: docs/decisions/0016. A trigger counts, so that the runs of nodes
-- of an older release are counted too.
-- compatible: 1

ALTER TABLE vm_runtimes ADD COLUMN run bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN vm_runtimes.run IS 'number of the present or last run: grows with each claim';

CREATE FUNCTION vm_runtimes_next_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.run := OLD.run + 1;
    RETURN NEW;
END $$;
CREATE TRIGGER vm_runtimes_next_run BEFORE UPDATE OF vm_state ON vm_runtimes FOR EACH ROW
    WHEN (OLD.vm_state = 'stopped' AND NEW.vm_state <> 'stopped')
    EXECUTE FUNCTION vm_runtimes_next_run();
