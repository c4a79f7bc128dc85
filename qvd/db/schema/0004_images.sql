-- Life of images, the tags that the database keeps itself, which node sees which image, and expiry of VMs.
-- An image's state stands in its own row, not in di_runtimes as in QVD 4.2: so an image that is still being made is
-- never startable for a moment. Its default is that of a file that is there already.
-- compatible: 1

ALTER TABLE dis
    ADD COLUMN state text NOT NULL DEFAULT 'published'
        CHECK (state IN ('new', 'generating', 'uploading', 'verifying', 'ready', 'published', 'retired', 'fail')),
    ADD COLUMN published_at timestamptz;
UPDATE dis SET published_at = now();
ALTER TABLE di_tags ADD COLUMN fixed boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN dis.state IS 'only a published image is started from';
COMMENT ON COLUMN di_tags.fixed IS 'the tag that is the image''s own version: it stays where it is';

CREATE TABLE host_images (
    host_id     integer NOT NULL REFERENCES hosts ON DELETE CASCADE,
    di_id       integer NOT NULL REFERENCES dis ON DELETE CASCADE,
    PRIMARY KEY (host_id, di_id)
);
CREATE INDEX host_images_di ON host_images (di_id);
ALTER TABLE host_runtimes ADD COLUMN images_epoch bigint;
COMMENT ON TABLE host_images IS 'the images that a node finds in its path.storage.images';
COMMENT ON COLUMN host_runtimes.images_epoch IS 'the epoch that wrote host_images; of another one nothing is known of images';

ALTER TABLE vm_runtimes
    ADD COLUMN vm_expiration_soft timestamptz,
    ADD COLUMN vm_expiration_hard timestamptz,
    ADD COLUMN vm_expiration_soft_told timestamptz,
    ADD COLUMN vm_expiration_hard_told timestamptz;
COMMENT ON COLUMN vm_runtimes.vm_expiration_soft IS 'from then on the VM stops as soon as nobody is connected';
COMMENT ON COLUMN vm_runtimes.vm_expiration_hard IS 'the VM stops then';
COMMENT ON COLUMN vm_runtimes.vm_expiration_soft_told IS 'the date that the user was told of, when it came';
COMMENT ON COLUMN vm_runtimes.vm_expiration_hard_told IS 'the date that the user was warned of';
CREATE INDEX vm_runtimes_expiring ON vm_runtimes (host_id)
    WHERE vm_expiration_soft IS NOT NULL OR vm_expiration_hard IS NOT NULL;

-- head is the newest published image of an OSF; default stays where it is put, and begins at the first one. Both move
-- away from an image that is deleted. The OSF is locked, so that of two publications the newer one has head.
CREATE FUNCTION settle_tags(of_osf integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    newest integer;
BEGIN
    PERFORM FROM osfs WHERE id = of_osf FOR NO KEY UPDATE;
    SELECT id INTO newest FROM dis WHERE osf_id = of_osf AND state = 'published'
        ORDER BY published_at DESC, id DESC LIMIT 1;
    IF newest IS NULL THEN
        DELETE FROM di_tags WHERE osf_id = of_osf AND tag = 'head';
        RETURN;
    END IF;
    INSERT INTO di_tags (osf_id, tag, di_id) VALUES (of_osf, 'head', newest)
        ON CONFLICT (osf_id, tag) DO UPDATE SET di_id = newest WHERE di_tags.di_id <> newest;
    INSERT INTO di_tags (osf_id, tag, di_id) VALUES (of_osf, 'default', newest) ON CONFLICT (osf_id, tag) DO NOTHING;
END $$;

-- What exists gets its version as a tag, unless a tag of that name is in use already.
INSERT INTO di_tags (osf_id, tag, di_id, fixed) SELECT osf_id, version, id, true FROM dis WHERE version <> ''
    ON CONFLICT (osf_id, tag) DO UPDATE SET fixed = true WHERE di_tags.di_id = excluded.di_id;
SELECT settle_tags(id) FROM osfs;

CREATE FUNCTION dis_published() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state <> 'published' THEN
        NEW.published_at := NULL;
    ELSIF TG_OP = 'INSERT' OR OLD.state <> 'published' THEN
        NEW.published_at := now();
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER dis_published BEFORE INSERT OR UPDATE OF state ON dis FOR EACH ROW EXECUTE FUNCTION dis_published();

CREATE FUNCTION dis_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR OLD.version <> NEW.version THEN
        IF NEW.version IN ('', 'head', 'default') OR EXISTS (
            SELECT FROM di_tags WHERE osf_id = NEW.osf_id AND tag = NEW.version
        ) THEN
            RAISE EXCEPTION 'The version "%" is a tag already: choose another one', NEW.version
                USING ERRCODE = 'unique_violation';
        END IF;
        IF TG_OP = 'UPDATE' THEN
            DELETE FROM di_tags WHERE di_id = NEW.id AND fixed;
        END IF;
        INSERT INTO di_tags (osf_id, tag, di_id, fixed) VALUES (NEW.osf_id, NEW.version, NEW.id, true);
    END IF;
    IF TG_OP = 'INSERT' OR OLD.state <> NEW.state THEN
        PERFORM settle_tags(NEW.osf_id);
        INSERT INTO events (kind, tenant_id, before, after, cause)
        VALUES ('di.' || NEW.state, NEW.tenant_id,
                CASE WHEN TG_OP = 'UPDATE' THEN jsonb_build_object('state', OLD.state) END,
                jsonb_build_object('di_id', NEW.id, 'osf_id', NEW.osf_id, 'version', NEW.version, 'state', NEW.state),
                nullif(current_setting('qvd.cause', true), ''));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER dis_tags AFTER INSERT OR UPDATE OF version, state ON dis FOR EACH ROW EXECUTE FUNCTION dis_tags();

-- An image that VMs would start from is not deleted, unless its tag moves to another one by itself.
CREATE FUNCTION dis_wanted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wanted text;
BEGIN
    SELECT v.name INTO wanted FROM di_tags g JOIN vms v ON v.osf_id = g.osf_id AND v.di_tag = g.tag
        WHERE g.di_id = OLD.id AND NOT (g.tag IN ('head', 'default') AND EXISTS (
            SELECT FROM dis d WHERE d.osf_id = OLD.osf_id AND d.id <> OLD.id AND d.state = 'published'))
        LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'The VM "%" would start from image "%": give it, or the tag, another image first', wanted, OLD.version
            USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER dis_wanted BEFORE DELETE ON dis FOR EACH ROW EXECUTE FUNCTION dis_wanted();

CREATE FUNCTION dis_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The foreign key's own trigger may come after this one.
    DELETE FROM di_tags WHERE di_id = OLD.id;
    PERFORM settle_tags(OLD.osf_id);
    RETURN NULL;
END $$;
CREATE TRIGGER dis_deleted AFTER DELETE ON dis FOR EACH ROW EXECUTE FUNCTION dis_deleted();

CREATE FUNCTION dis_rings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('qvd_images_changed', '');
    RETURN NULL;
END $$;
CREATE TRIGGER dis_rings AFTER INSERT OR DELETE OR UPDATE OF path, state ON dis
    FOR EACH STATEMENT EXECUTE FUNCTION dis_rings();

-- By hand, only free tags and default are moved. What the triggers above do comes from inside of a trigger.
CREATE FUNCTION di_tags_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moved di_tags%ROWTYPE;
BEGIN
    IF pg_trigger_depth() > 1 THEN
        RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'INSERT' THEN
        IF EXISTS (SELECT FROM di_tags WHERE osf_id = NEW.osf_id AND tag = NEW.tag AND di_id = NEW.di_id) THEN
            RETURN NULL; -- it is there already
        END IF;
        moved := NEW;
    ELSE
        moved := OLD;
    END IF;
    IF moved.fixed OR moved.tag = 'head' OR (TG_OP = 'UPDATE' AND (NEW.fixed OR NEW.tag <> OLD.tag)) THEN
        RAISE EXCEPTION 'The tag "%" is kept by the database: head follows the newest published image, a version stays',
            moved.tag USING ERRCODE = 'check_violation';
    END IF;
    IF TG_OP = 'DELETE' AND moved.tag = 'default' THEN
        RAISE EXCEPTION 'The tag "default" cannot be removed: move it to another image'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER di_tags_guard BEFORE INSERT OR UPDATE OR DELETE ON di_tags
    FOR EACH ROW EXECUTE FUNCTION di_tags_guard();

-- The dates are those of one run.
CREATE FUNCTION vm_runtimes_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.vm_expiration_soft := NULL;
    NEW.vm_expiration_hard := NULL;
    NEW.vm_expiration_soft_told := NULL;
    NEW.vm_expiration_hard_told := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER vm_runtimes_run BEFORE UPDATE OF vm_state ON vm_runtimes FOR EACH ROW
    WHEN (OLD.vm_state <> NEW.vm_state AND 'stopped' IN (OLD.vm_state, NEW.vm_state))
    EXECUTE FUNCTION vm_runtimes_run();

-- A change of the dates, or of what they wait for: the run itself, and whether somebody is connected.
CREATE FUNCTION vm_runtimes_expiry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('qvd_expiry_on_host_' || NEW.host_id, '');
    RETURN NULL;
END $$;
CREATE TRIGGER vm_runtimes_expiry AFTER UPDATE ON vm_runtimes FOR EACH ROW
    WHEN (NEW.host_id IS NOT NULL
        AND (OLD.vm_expiration_soft, OLD.vm_expiration_hard, NEW.vm_expiration_soft, NEW.vm_expiration_hard)
            IS DISTINCT FROM (NULL, NULL, NULL, NULL)
        AND (OLD.vm_expiration_soft, OLD.vm_expiration_hard, OLD.session_id, OLD.vm_state)
            IS DISTINCT FROM (NEW.vm_expiration_soft, NEW.vm_expiration_hard, NEW.session_id, NEW.vm_state))
    EXECUTE FUNCTION vm_runtimes_expiry();

GRANT SELECT ON host_images TO qvd_node, qvd_api;
GRANT INSERT, DELETE ON host_images TO qvd_node;
GRANT UPDATE (vm_expiration_soft, vm_expiration_hard) ON vm_runtimes TO qvd_api;
