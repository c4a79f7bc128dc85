-- What the administration needs of all objects, and the audit trail. docs/decisions/0024.
-- compatible: 1

INSERT INTO tenants (id, name) VALUES (0, '*'), (-1, '-');

ALTER TABLE tenants
    ADD description text NOT NULL DEFAULT '',
    ADD language text NOT NULL DEFAULT 'auto' CHECK (language IN ('auto', 'en', 'es', 'default')),
    ADD page_size integer NOT NULL DEFAULT 50 CHECK (page_size BETWEEN 1 AND 500),
    ADD created_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE users
    ADD description text NOT NULL DEFAULT '',
    ADD language text NOT NULL DEFAULT 'auto' CHECK (language IN ('auto', 'en', 'es', 'default')),
    ADD created_at timestamptz NOT NULL DEFAULT now(),
    ADD created_by text NOT NULL DEFAULT '';
ALTER TABLE administrators
    ADD description text NOT NULL DEFAULT '',
    ADD language text NOT NULL DEFAULT 'auto' CHECK (language IN ('auto', 'en', 'es', 'default')),
    ADD page_size integer CHECK (page_size BETWEEN 1 AND 500),
    ADD blocked boolean NOT NULL DEFAULT false,
    ADD created_at timestamptz NOT NULL DEFAULT now(),
    ADD created_by text NOT NULL DEFAULT '',
    ADD UNIQUE (id, tenant_id);
ALTER TABLE osfs
    ADD description text NOT NULL DEFAULT '',
    ADD created_at timestamptz NOT NULL DEFAULT now(),
    ADD created_by text NOT NULL DEFAULT '';
ALTER TABLE dis
    ADD description text NOT NULL DEFAULT '',
    ADD created_at timestamptz NOT NULL DEFAULT now(),
    ADD created_by text NOT NULL DEFAULT '';
ALTER TABLE hosts
    ADD description text NOT NULL DEFAULT '',
    ADD created_at timestamptz NOT NULL DEFAULT now(),
    ADD created_by text NOT NULL DEFAULT '';
ALTER TABLE vms
    ADD description text NOT NULL DEFAULT '',
    ADD created_at timestamptz NOT NULL DEFAULT now(),
    ADD created_by text NOT NULL DEFAULT '';

-- The audit trail. Each row's hash covers the row and the hash before it, so that a row that was edited or taken away
-- is noticed (qvd-db verify-audit); the head says where the trail ends. Rows are written by the function alone.
CREATE TABLE audit (
    id          bigint PRIMARY KEY,
    at          timestamptz NOT NULL,
    entry       jsonb NOT NULL,
    hash        bytea NOT NULL,
    action      text GENERATED ALWAYS AS (entry ->> 'action') STORED,
    outcome     text GENERATED ALWAYS AS (entry ->> 'outcome') STORED,
    kind        text GENERATED ALWAYS AS (entry ->> 'kind') STORED,
    object_id   bigint GENERATED ALWAYS AS ((entry ->> 'object_id')::bigint) STORED,
    administrator_id integer GENERATED ALWAYS AS ((entry ->> 'administrator_id')::integer) STORED,
    tenant_id   integer GENERATED ALWAYS AS (coalesce((entry ->> 'object_tenant_id')::integer,
        (entry ->> 'administrator_tenant_id')::integer)) STORED,
    request_id  text GENERATED ALWAYS AS (entry ->> 'request_id') STORED
);
COMMENT ON COLUMN audit.tenant_id IS 'whose administrators may see it';
CREATE INDEX audit_tenant ON audit (tenant_id, id);
CREATE INDEX audit_object ON audit (kind, object_id, id);
CREATE INDEX audit_at ON audit (at);

CREATE TABLE audit_head (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    id          bigint NOT NULL DEFAULT 0,
    hash        bytea NOT NULL DEFAULT '\x'
);
INSERT INTO audit_head DEFAULT VALUES;

CREATE FUNCTION audit_hash(before bytea, id bigint, at timestamptz, entry jsonb) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(before || convert_to(id || ' ' || extract(epoch FROM at)::text || ' ' || entry::text, 'UTF8'))
$$;

CREATE FUNCTION audit_append(entry jsonb) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    head audit_head;
    now_at timestamptz;
BEGIN
    SELECT * INTO head FROM audit_head FOR UPDATE;
    now_at := clock_timestamp();
    head.id := head.id + 1;
    head.hash := audit_hash(head.hash, head.id, now_at, entry);
    INSERT INTO audit (id, at, entry, hash) VALUES (head.id, now_at, entry, head.hash);
    UPDATE audit_head SET id = head.id, hash = head.hash;
    RETURN head.id;
END $$;
REVOKE ALL ON FUNCTION audit_append(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_append(jsonb) TO qvd_api;
GRANT SELECT ON audit, audit_head TO qvd_api;

-- Answers to requests that carry a key of the caller's, so that one that is sent again does nothing again.
CREATE TABLE replies (
    administrator_id integer NOT NULL REFERENCES administrators ON DELETE CASCADE,
    key         text NOT NULL,
    digest      bytea NOT NULL,
    status      integer NOT NULL,
    headers     jsonb NOT NULL,
    body        bytea NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (administrator_id, key)
);
CREATE INDEX replies_at ON replies (at);
GRANT SELECT, INSERT, DELETE ON replies TO qvd_api;
