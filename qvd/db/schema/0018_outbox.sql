-- What changed, for those who watch: one short row for each change of an object, written by the transaction that makes
-- it. The API reads it in turns while somebody watches (qvd/admin/events); no commit waits for a NOTIFY of it.
-- A reader takes the rows of transactions older than all that still run: those are complete, so that none comes later.
-- compatible: 1

CREATE TABLE outbox (
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq         bigint GENERATED ALWAYS AS IDENTITY,
    kind        text NOT NULL,
    object_id   text NOT NULL,
    tenant_id   integer,
    op          text NOT NULL CHECK (op IN ('added', 'changed', 'removed')),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (xid, seq)
);
COMMENT ON COLUMN outbox.tenant_id IS 'NULL: the object belongs to no tenant';

-- Whoever writes each 256th row takes away what is too old, so that the table stays small whether or not a service
-- reads it. Five minutes more than the 15 that are promised: a row's time is that of its writing, not of its commit.
CREATE FUNCTION outbox_prune() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    -- Elsewhere, two who prune at a time would fail.
    IF current_setting('transaction_isolation') = 'read committed' THEN
        DELETE FROM outbox WHERE (xid, seq) IN (
            SELECT xid, seq FROM outbox WHERE (xid, seq) IN (
                SELECT xid, seq FROM (SELECT xid, seq, at FROM outbox ORDER BY xid, seq LIMIT 512) oldest
                WHERE at < clock_timestamp() - interval '20 minutes')
            FOR UPDATE SKIP LOCKED);
    END IF;
END $$;

-- Begin to write a table's changes. One function is made for each table, and PostgreSQL itself sees whether a column
-- that matters has changed, so that a sign of life costs nothing.
-- id and tenant are expressions over the row r. columns: those that matter; NULL: all. part: rows are parts of an
-- object of another table, which is changed with them; moves: from one object to another, which changes both.
CREATE FUNCTION outbox_attach(the_table regclass, kind text, id text DEFAULT 'r.id', tenant text DEFAULT 'r.tenant_id',
    columns text[] DEFAULT NULL, part boolean DEFAULT false, moves boolean DEFAULT false) RETURNS void LANGUAGE plpgsql AS $attach$
DECLARE
    name text := 'outbox_' || (SELECT relname FROM pg_class WHERE oid = the_table) || '_' || kind;
    differs text := CASE WHEN columns IS NULL THEN 'OLD.* IS DISTINCT FROM NEW.*' ELSE
        (SELECT string_agg(format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', each), ' OR ') FROM unnest(columns) each) END;
BEGIN
    EXECUTE format($make$
        CREATE FUNCTION %1$I() RETURNS trigger LANGUAGE plpgsql AS $f$
        DECLARE
            r %2$s%%ROWTYPE;
            written bigint;
        BEGIN
            IF TG_OP = 'DELETE' THEN r := OLD; ELSE r := NEW; END IF;
            INSERT INTO outbox (kind, object_id, tenant_id, op)
                VALUES (%3$L, %4$s, %5$s, %6$s) RETURNING seq INTO written;
            IF written %% 256 = 0 THEN
                PERFORM outbox_prune();
            END IF;
            %7$s
            RETURN NULL;
        END $f$
    $make$, name, the_table, kind, id, tenant,
        CASE WHEN part THEN '''changed''' ELSE
            'CASE TG_OP WHEN ''INSERT'' THEN ''added'' WHEN ''UPDATE'' THEN ''changed'' ELSE ''removed'' END' END,
        CASE WHEN moves THEN format($part$
            IF TG_OP = 'UPDATE' THEN
                r := OLD;
                INSERT INTO outbox (kind, object_id, tenant_id, op) VALUES (%L, %s, %s, 'changed');
            END IF;$part$, kind, id, tenant) ELSE '' END);
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION %I()',
        name, the_table, name);
    EXECUTE format('CREATE TRIGGER %I AFTER UPDATE ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION %I()',
        name || '_update', the_table, differs, name);
END $attach$;
REVOKE ALL ON FUNCTION outbox_attach(regclass, text, text, text, text[], boolean, boolean) FROM PUBLIC;

GRANT SELECT, INSERT ON outbox TO qvd_api;
GRANT INSERT, SELECT (seq) ON outbox TO qvd_node;

SELECT outbox_attach('tenants', 'tenant', tenant => 'r.id');
SELECT outbox_attach('administrators', 'administrator');
SELECT outbox_attach('users', 'user');
SELECT outbox_attach('osfs', 'osf');
SELECT outbox_attach('dis', 'di');
SELECT outbox_attach('di_tags', 'di', 'r.di_id', '(SELECT d.tenant_id FROM dis d WHERE d.id = r.di_id)', part => true,
    moves => true);
SELECT outbox_attach('hosts', 'host', tenant => 'NULL');
SELECT outbox_attach('host_properties', 'host', 'r.host_id', 'NULL', part => true);
SELECT outbox_attach('vms', 'vm');
SELECT outbox_attach('sessions', 'session', columns => ARRAY['state', 'ended_at']);

-- Run-time rows are made and taken away with their objects, which say so themselves; signs of life are no changes.
SELECT outbox_attach('host_runtimes', 'host', 'r.host_id', 'NULL', part => true,
    columns => ARRAY['state', 'blocked', 'drain', 'decommissioned_at', 'hypervisor', 'usable_ram', 'usable_cpu']);
SELECT outbox_attach('vm_runtimes', 'vm', 'r.vm_id', part => true,
    columns => ARRAY['blocked', 'desired_state', 'generation', 'host_id', 'vm_state', 'phase', 'detail', 'last_error',
        'current_di_id', 'vm_address', 'session_id', 'vm_expiration_soft', 'vm_expiration_hard']);
DROP TRIGGER outbox_host_runtimes_host ON host_runtimes;
DROP TRIGGER outbox_vm_runtimes_vm ON vm_runtimes;
-- Whether somebody is connected is shown with the VM.
SELECT outbox_attach('sessions', 'vm', 'r.vm_id', columns => ARRAY['state'], part => true);

-- Tables that came between this and the rest; what comes later attaches itself.
DO $$
BEGIN
    IF to_regclass('jobs') IS NOT NULL THEN
        PERFORM outbox_attach('jobs', 'job', columns => ARRAY['state', 'done', 'total', 'unit', 'cancel_wanted', 'result',
            'problem', 'log', 'attempts', 'started_at', 'ended_at']);
    END IF;
    IF to_regclass('roles') IS NOT NULL THEN
        PERFORM outbox_attach('roles', 'role');
        PERFORM outbox_attach('role_acls', 'role', 'r.role_id',
            '(SELECT p.tenant_id FROM roles p WHERE p.id = r.role_id)', part => true);
        PERFORM outbox_attach('role_parents', 'role', 'r.role_id', part => true);
        PERFORM outbox_attach('administrator_roles', 'administrator', 'r.administrator_id', part => true);
    END IF;
END $$;
