-- The life of a node: enrolment with a token, drain, decommission, and its history.
-- An older node ignores all of it: it takes no notice of a drain, and it still starts under the name of a node that was
-- decommissioned. So nodes are upgraded before these commands are used.
-- compatible: 1

ALTER TABLE hosts ADD COLUMN identity_hash bytea;
COMMENT ON COLUMN hosts.identity_hash IS
    'SHA-256 of what only the enrolled machine knows; NULL: any machine of this name may be the node';

ALTER TABLE host_runtimes
    ADD COLUMN drain text CHECK (drain IN ('wait', 'stop')),
    ADD COLUMN decommissioned_at timestamptz;
COMMENT ON COLUMN host_runtimes.drain IS
    'no new VMs; those that are there are stopped, or stay until they stop by themselves. NULL: not being drained';
COMMENT ON COLUMN host_runtimes.decommissioned_at IS
    'the node is no part of the farm any more; the row stays for the history, and for the next node of this name';

CREATE TABLE host_tokens (
    token_hash  bytea PRIMARY KEY,
    name        text CHECK (name <> ''),
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz,
    host_id     integer REFERENCES hosts ON DELETE CASCADE
);
COMMENT ON COLUMN host_tokens.name IS 'the only node that may be enrolled with it; NULL: any new one';

-- One event and one bell for each change of a node's state or flags, whoever makes it. Renewals of the lease touch none
-- of these columns. A loss writes an event of its own (qvd/db/lost.py).
CREATE FUNCTION host_runtimes_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was jsonb := jsonb_build_object('state', OLD.state, 'blocked', OLD.blocked, 'drain', OLD.drain,
                                    'decommissioned', OLD.decommissioned_at IS NOT NULL);
    becomes jsonb := jsonb_build_object('state', NEW.state, 'blocked', NEW.blocked, 'drain', NEW.drain,
                                        'decommissioned', NEW.decommissioned_at IS NOT NULL);
BEGIN
    IF was = becomes THEN
        RETURN NULL;
    END IF;
    IF NEW.state <> 'lost' OR OLD.state = 'lost' THEN
        INSERT INTO events (kind, host_id, before, after, cause)
        VALUES ('host.' || CASE
                    WHEN OLD.decommissioned_at IS DISTINCT FROM NEW.decommissioned_at
                        THEN CASE WHEN NEW.decommissioned_at IS NULL THEN 'enrolled' ELSE 'decommissioned' END
                    WHEN OLD.drain IS DISTINCT FROM NEW.drain
                        THEN CASE WHEN NEW.drain IS NULL THEN 'undrained' ELSE 'drained' END
                    WHEN OLD.blocked <> NEW.blocked THEN CASE WHEN NEW.blocked THEN 'blocked' ELSE 'unblocked' END
                    ELSE NEW.state END,
                NEW.host_id, was, becomes, nullif(current_setting('qvd.cause', true), ''));
    END IF;
    IF (OLD.blocked, OLD.drain, OLD.decommissioned_at) IS DISTINCT FROM (NEW.blocked, NEW.drain, NEW.decommissioned_at) THEN
        PERFORM pg_notify('qvd_host_changed_' || NEW.host_id, '');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER host_runtimes_changed AFTER UPDATE OF state, blocked, drain, decommissioned_at ON host_runtimes
    FOR EACH ROW EXECUTE FUNCTION host_runtimes_changed();

-- A machine becomes a node. It comes with the role of nodes, which may not write hosts: the token is what entitles it.
-- Answers a word that qvd/db/enrolment.py turns into a sentence, and the number that belongs to it.
CREATE FUNCTION enrol_host(the_token bytea, the_name text, the_address text, the_identity bytea, silent_seconds float8)
RETURNS TABLE (answer text, host integer, detail text) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    token host_tokens;
    known record;
    enrolled integer;
BEGIN
    SELECT * INTO token FROM host_tokens t WHERE t.token_hash = the_token FOR UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'unknown', NULL::integer, NULL::text;
        RETURN;
    END IF;
    IF token.used_at IS NOT NULL THEN
        -- The same machine asks again: the answer had not reached it.
        RETURN QUERY SELECT CASE WHEN h.name = the_name AND h.identity_hash = the_identity AND r.decommissioned_at IS NULL
                                 THEN 'enrolled' ELSE 'used' END, h.id, h.name
            FROM hosts h JOIN host_runtimes r ON r.host_id = h.id WHERE h.id = token.host_id;
        RETURN;
    END IF;
    IF token.expires_at <= now() THEN
        RETURN QUERY SELECT 'expired', NULL::integer, to_char(token.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI');
        RETURN;
    END IF;
    IF token.name <> the_name THEN
        RETURN QUERY SELECT 'other_name', NULL::integer, token.name;
        RETURN;
    END IF;
    SELECT h.id, r.decommissioned_at, r.state,
        coalesce(r.lease_until + silent_seconds * interval '1 second' > now(), false) AS alive
        INTO known FROM hosts h JOIN host_runtimes r ON r.host_id = h.id WHERE h.name = the_name FOR UPDATE OF r;
    IF NOT FOUND THEN
        INSERT INTO hosts (name, address, identity_hash) VALUES (the_name, the_address, the_identity)
            ON CONFLICT DO NOTHING RETURNING id INTO enrolled;
        IF enrolled IS NULL THEN
            RETURN QUERY SELECT 'taken', NULL::integer, the_name;
            RETURN;
        END IF;
        INSERT INTO events (kind, host_id, after, cause)
            VALUES ('host.enrolled', enrolled, jsonb_build_object('name', the_name, 'address', the_address), 'a new machine');
    ELSE
        IF known.decommissioned_at IS NULL AND token.name IS NULL THEN
            RETURN QUERY SELECT 'taken', known.id, the_name;
            RETURN;
        END IF;
        IF known.decommissioned_at IS NULL AND known.alive THEN
            RETURN QUERY SELECT 'alive', known.id, the_name;
            RETURN;
        END IF;
        enrolled := known.id;
        UPDATE hosts SET address = the_address, identity_hash = the_identity WHERE id = enrolled;
        -- What the former machine was told is not for this one. The epoch goes on, so that nothing of before counts.
        PERFORM set_config('qvd.cause', 'another machine takes the name over', true);
        IF known.decommissioned_at IS NULL THEN
            INSERT INTO events (kind, host_id, after, cause) VALUES ('host.enrolled', enrolled,
                jsonb_build_object('name', the_name, 'address', the_address), current_setting('qvd.cause'));
        END IF;
        UPDATE host_runtimes SET decommissioned_at = NULL, drain = NULL, blocked = false, epoch = epoch + 1,
            state = CASE WHEN state = 'lost' THEN 'lost' ELSE 'stopped' END WHERE host_id = enrolled;
    END IF;
    UPDATE host_tokens SET used_at = now(), host_id = enrolled WHERE token_hash = the_token;
    RETURN QUERY SELECT 'enrolled', enrolled, the_name;
END $$;
REVOKE ALL ON FUNCTION enrol_host(bytea, text, text, bytea, float8) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION enrol_host(bytea, text, text, bytea, float8) TO qvd_node;

GRANT SELECT (name, created_at, expires_at, used_at, host_id), INSERT, DELETE ON host_tokens TO qvd_api;
GRANT UPDATE (drain, decommissioned_at) ON host_runtimes TO qvd_api;
-- An order to start that a drained node has not taken up loses its node.
GRANT UPDATE (host_id, phase, detail, last_error) ON vm_runtimes TO qvd_api;
