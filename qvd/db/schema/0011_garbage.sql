-- What nodes find in the storage that nothing refers to: docs/decisions/0023. A mark is what such a thing needs to be
-- taken away, and the row that is locked while that is done. What comes to refer to a thing deletes its mark, by
-- triggers: a VM that is made, a VM that starts, an image that is registered. So of the two the one waits for the other.
-- compatible: 1

CREATE TABLE installation (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    id          uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO installation DEFAULT VALUES;
COMMENT ON TABLE installation IS 'names this installation; the folders of its storage carry the name as well';

CREATE TABLE garbage_marks (
    storage     text NOT NULL,
    path        text NOT NULL,
    kind        text NOT NULL
        CHECK (kind IN ('home', 'persistent', 'layer', 'base', 'unfinished', 'trash')),
    vm_id       integer,
    node        text,
    image       text,
    checksum    text,
    since       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (storage, path)
);
COMMENT ON COLUMN garbage_marks.storage IS 'name of the folder, as a file in it says, wherever it is mounted';
COMMENT ON COLUMN garbage_marks.path IS 'below that folder';
COMMENT ON COLUMN garbage_marks.vm_id IS 'the VM that it belongs to, or belonged to';
COMMENT ON COLUMN garbage_marks.node IS 'of a layer: name of the only node that can use it; NULL: any';
COMMENT ON COLUMN garbage_marks.image IS 'dis.path that it was made of';
COMMENT ON COLUMN garbage_marks.checksum IS 'of that file when it was unpacked; NULL: not known';
COMMENT ON COLUMN garbage_marks.since IS 'when it was first seen without a reference';
CREATE INDEX garbage_marks_vm ON garbage_marks (vm_id) WHERE vm_id IS NOT NULL;
CREATE INDEX garbage_marks_image ON garbage_marks (image) WHERE image IS NOT NULL;

CREATE TABLE garbage_collector (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    token       uuid,
    holder      text NOT NULL DEFAULT '',
    until       timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO garbage_collector DEFAULT VALUES;
COMMENT ON TABLE garbage_collector IS 'who collects just now, and until when that holds unless it is prolonged';

CREATE FUNCTION garbage_unmark_vm() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    DELETE FROM garbage_marks WHERE vm_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER garbage_unmark AFTER INSERT ON vms FOR EACH ROW EXECUTE FUNCTION garbage_unmark_vm();

CREATE FUNCTION garbage_unmark_run() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    DELETE FROM garbage_marks WHERE vm_id = NEW.vm_id
        AND (node IS NULL OR node = (SELECT name FROM hosts WHERE id = NEW.host_id));
    RETURN NULL;
END $$;
CREATE TRIGGER garbage_unmark AFTER UPDATE OF vm_state ON vm_runtimes FOR EACH ROW
    WHEN (OLD.vm_state = 'stopped' AND NEW.vm_state <> 'stopped') EXECUTE FUNCTION garbage_unmark_run();

CREATE FUNCTION garbage_unmark_image() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    DELETE FROM garbage_marks WHERE image = NEW.path;
    RETURN NULL;
END $$;
CREATE TRIGGER garbage_unmark AFTER INSERT OR UPDATE OF path, checksum ON dis FOR EACH ROW EXECUTE FUNCTION garbage_unmark_image();

GRANT SELECT ON installation TO qvd_node, qvd_api;
GRANT SELECT ON garbage_marks, garbage_collector TO qvd_node, qvd_api;
GRANT INSERT, DELETE ON garbage_marks TO qvd_node;
GRANT UPDATE ON garbage_collector TO qvd_node;
