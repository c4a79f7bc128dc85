-- What administrators set beside the objects themselves: configuration, definitions of custom properties with the
-- values of users and images, views, and for how long the audit trail is kept.
-- compatible: 1

-- Values of keys that qvd.model.configuration declares. Tenant -1: for the whole installation.
CREATE TABLE configs (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   integer NOT NULL REFERENCES tenants ON DELETE CASCADE,
    host_id     integer REFERENCES hosts ON DELETE CASCADE,
    key         text NOT NULL CHECK (key <> ''),
    value       jsonb NOT NULL,
    CHECK (tenant_id <> 0),
    CHECK (host_id IS NULL OR tenant_id = -1)
);
CREATE UNIQUE INDEX configs_key ON configs (key, tenant_id, coalesce(host_id, 0));
GRANT SELECT ON configs TO qvd_node, qvd_api;
GRANT INSERT, UPDATE, DELETE ON configs TO qvd_api;

-- Whoever made the installation one of a single tenant had looked whether there is one.
CREATE FUNCTION tenants_single() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM configs c WHERE c.key = 'wat.multitenant' AND c.tenant_id = -1 AND c.value = 'false') THEN
        RAISE check_violation USING MESSAGE = 'The installation has a single tenant: set wat.multitenant first';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER tenants_single BEFORE INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION tenants_single();

-- Definitions. Those of tenant 0 are for objects of all tenants. Keys of the product itself begin with qvd. and need none.
CREATE TABLE properties (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   integer NOT NULL REFERENCES tenants ON DELETE CASCADE CHECK (tenant_id >= 0),
    key         text NOT NULL CHECK (key <> '' AND NOT starts_with(key, 'qvd.')),
    description text NOT NULL DEFAULT '',
    type        text NOT NULL DEFAULT 'text' CHECK (type IN ('text', 'integer', 'boolean', 'secret')),
    kinds       text[] NOT NULL DEFAULT '{}' CHECK (kinds <@ ARRAY['user', 'vm', 'host', 'osf', 'di']),
    UNIQUE (tenant_id, key)
);
CREATE FUNCTION properties_apart() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Values are found by their keys: one of all tenants and one of a tenant would be the same value.
    PERFORM pg_advisory_xact_lock(hashtext('qvd properties'));
    IF EXISTS (SELECT FROM properties p WHERE p.key = NEW.key AND p.id <> NEW.id
               AND (p.tenant_id = 0 OR NEW.tenant_id = 0)) THEN
        RAISE unique_violation USING MESSAGE = 'A property of that key exists already';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER properties_apart BEFORE INSERT OR UPDATE OF key, tenant_id ON properties
    FOR EACH ROW EXECUTE FUNCTION properties_apart();
GRANT SELECT, INSERT, UPDATE, DELETE ON properties TO qvd_api;

CREATE TABLE user_properties (
    user_id     integer NOT NULL,
    tenant_id   integer NOT NULL,
    key         text NOT NULL CHECK (key <> ''),
    value       text NOT NULL,
    PRIMARY KEY (user_id, key),
    FOREIGN KEY (user_id, tenant_id) REFERENCES users (id, tenant_id) ON DELETE CASCADE
);
CREATE INDEX user_properties_key ON user_properties (tenant_id, key);
CREATE TABLE di_properties (
    di_id       integer NOT NULL,
    tenant_id   integer NOT NULL,
    key         text NOT NULL CHECK (key <> ''),
    value       text NOT NULL,
    PRIMARY KEY (di_id, key),
    FOREIGN KEY (di_id, tenant_id) REFERENCES dis (id, tenant_id) ON DELETE CASCADE
);
CREATE INDEX di_properties_key ON di_properties (tenant_id, key);
GRANT SELECT ON user_properties, di_properties TO qvd_node, qvd_api;
GRANT INSERT, UPDATE, DELETE ON user_properties, di_properties TO qvd_api;

-- The image that a VM runs from, or would start from.
CREATE FUNCTION vm_image(vm integer) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT coalesce(r.current_di_id, g.di_id) FROM vms v LEFT JOIN vm_runtimes r ON r.vm_id = v.id
        LEFT JOIN di_tags g ON g.osf_id = v.osf_id AND g.tag = v.di_tag WHERE v.id = vm
$$;

-- What a VM has of its OSF, image and user and of its own, the later winning. The one place that knows the order:
-- placement reads it, and the administration shows it.
CREATE FUNCTION vm_properties_of(vm integer) RETURNS TABLE (key text, value text, origin text) LANGUAGE sql STABLE AS $$
    SELECT DISTINCT ON (a.key) a.key, a.value, a.origin FROM (
        SELECT p.key, p.value, 'osf', 1 FROM vms v JOIN osf_properties p ON p.osf_id = v.osf_id WHERE v.id = vm
        UNION ALL
        SELECT p.key, p.value, 'di', 2 FROM di_properties p WHERE p.di_id = vm_image(vm)
        UNION ALL
        SELECT p.key, p.value, 'user', 3 FROM vms v JOIN user_properties p ON p.user_id = v.user_id WHERE v.id = vm
        UNION ALL
        SELECT p.key, p.value, 'vm', 4 FROM vm_properties p WHERE p.vm_id = vm
    ) a (key, value, origin, rank) ORDER BY a.key, a.rank DESC
$$;

-- Columns and filters of lists. Without an administrator: of all administrators of the tenant.
CREATE TABLE views (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   integer NOT NULL REFERENCES tenants ON DELETE CASCADE,
    administrator_id integer,
    section     text NOT NULL,
    setup       jsonb NOT NULL,
    FOREIGN KEY (administrator_id, tenant_id) REFERENCES administrators (id, tenant_id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX views_section ON views (tenant_id, section, coalesce(administrator_id, 0));
GRANT SELECT, INSERT, UPDATE, DELETE ON views TO qvd_api;

-- For how long the audit trail is kept. Its oldest rows can go; the anchor is what the first one left was chained to,
-- and the trail's own row about the purge says the same, so that an anchor that somebody moved is noticed.
CREATE TABLE audit_retention (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    days        integer DEFAULT 730 CHECK (days BETWEEN 30 AND 36500),
    hold        boolean NOT NULL DEFAULT false,
    hold_reason text NOT NULL DEFAULT '',
    anchor_id   bigint NOT NULL DEFAULT 0,
    anchor_hash bytea NOT NULL DEFAULT '\x'
);
COMMENT ON COLUMN audit_retention.days IS 'NULL: for ever';
COMMENT ON COLUMN audit_retention.hold IS 'nothing is taken away, however old';
INSERT INTO audit_retention DEFAULT VALUES;
GRANT SELECT, UPDATE (days, hold, hold_reason) ON audit_retention TO qvd_api;

CREATE FUNCTION audit_purge(most integer, OUT removed bigint, OUT anchor_id bigint, OUT anchor_hash bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    kept audit_retention;
    last bigint;
BEGIN
    SELECT * INTO kept FROM audit_retention FOR UPDATE;
    removed := 0;
    anchor_id := kept.anchor_id;
    anchor_hash := kept.anchor_hash;
    IF kept.hold OR kept.days IS NULL THEN
        RETURN;
    END IF;
    -- The end of the trail stands still meanwhile.
    PERFORM FROM audit_head FOR UPDATE;
    -- Rows that are old enough, from the first on, up to the first that is not.
    SELECT coalesce(min(a.id) - 1, (SELECT h.id FROM audit_head h)) INTO last FROM audit a
        WHERE a.at >= clock_timestamp() - kept.days * interval '1 day';
    last := least(last, kept.anchor_id + most);
    IF last <= kept.anchor_id THEN
        RETURN;
    END IF;
    SELECT a.hash INTO anchor_hash FROM audit a WHERE a.id = last;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'The audit trail has no row %: see qvd-db verify-audit', last;
    END IF;
    DELETE FROM audit a WHERE a.id <= last;
    GET DIAGNOSTICS removed = ROW_COUNT;
    anchor_id := last;
    UPDATE audit_retention r SET anchor_id = last, anchor_hash = audit_purge.anchor_hash;
END $$;
REVOKE ALL ON FUNCTION audit_purge(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_purge(integer) TO qvd_api;

-- What is told of these to those who watch: 0018_outbox.sql. Each value of the configuration is an object of its own,
-- named by its place and key; so is each row of the audit trail.
SELECT outbox_attach('properties', 'property');
SELECT outbox_attach('configs', 'config', 'concat_ws(''/'', r.tenant_id, coalesce(r.host_id, 0), r.key)');
SELECT outbox_attach('audit', 'log');

-- Values of what is defined for all tenants are the business of who is over all tenants, where there are several: others
-- do not learn that there are any, so they are not told that an object of theirs has changed.
CREATE FUNCTION property_audience(the_key text, tenant integer) RETURNS integer LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = public, pg_temp AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM properties p WHERE p.key = the_key AND p.tenant_id = 0) AND NOT EXISTS (
        SELECT FROM configs c WHERE c.key = 'wat.multitenant' AND c.tenant_id = -1 AND c.value = 'false')
        THEN 0 ELSE tenant END
$$;
SELECT outbox_attach(the_table, kind, format('r.%s_id', kind), 'property_audience(r.key, r.tenant_id)', part => true)
    FROM (VALUES ('user_properties'::regclass, 'user'), ('vm_properties', 'vm'), ('osf_properties', 'osf'),
        ('di_properties', 'di')) each (the_table, kind);
