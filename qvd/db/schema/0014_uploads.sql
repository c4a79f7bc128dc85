-- How a disk image comes to its file, and uploads that can be resumed.
-- compatible: 1

ALTER TABLE dis
    ADD COLUMN source text NOT NULL DEFAULT '' CHECK (source IN ('', 'upload', 'staging', 'url')),
    ADD COLUMN message text NOT NULL DEFAULT '',
    ADD COLUMN received bigint NOT NULL DEFAULT 0 CHECK (received >= 0),
    ADD COLUMN auto_publish boolean NOT NULL DEFAULT false,
    ADD COLUMN expire_soft_after integer CHECK (expire_soft_after >= 0),
    ADD COLUMN expire_hard_after integer CHECK (expire_hard_after >= 0),
    ADD COLUMN future_tags text[] NOT NULL DEFAULT '{}',
    ADD CHECK (expire_soft_after <= expire_hard_after);
COMMENT ON COLUMN dis.source IS 'where the administration took the file from; empty: it was registered by hand, and the file is not ours to delete';
COMMENT ON COLUMN dis.message IS 'why it failed';
COMMENT ON COLUMN dis.received IS 'bytes that have come so far, while it is being made';
COMMENT ON COLUMN dis.expire_soft_after IS 'seconds from its publication until VMs that run an older image stop; NULL: never. _hard_ likewise';
COMMENT ON COLUMN dis.future_tags IS 'tags that it takes over when it is published';

-- The unfinished file is called after the image, in a folder that only the service enters.
CREATE TABLE uploads (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    di_id       integer NOT NULL UNIQUE REFERENCES dis ON DELETE CASCADE,
    administrator_id integer NOT NULL REFERENCES administrators ON DELETE CASCADE,
    name        text NOT NULL,
    size        bigint NOT NULL CHECK (size > 0),
    checksum    text NOT NULL CHECK (checksum ~ '^[0-9a-f]{64}$'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    touched_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX uploads_administrator ON uploads (administrator_id);
COMMENT ON COLUMN uploads.name IS 'of the file, as the administrator calls it';
COMMENT ON COLUMN uploads.touched_at IS 'when something came last';
GRANT SELECT, INSERT, UPDATE, DELETE ON uploads TO qvd_api;
