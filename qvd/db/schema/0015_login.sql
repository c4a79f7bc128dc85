-- How administrators log in: sessions, tokens, second factor, failures. What proves somebody is stored as a hash.
-- compatible: 1

ALTER TABLE administrators
    ADD must_change_password boolean NOT NULL DEFAULT false,
    ADD password_expires_at timestamptz,
    ADD time_zone text NOT NULL DEFAULT '' CHECK (length(time_zone) <= 64),
    ADD theme text NOT NULL DEFAULT 'auto' CHECK (theme IN ('auto', 'light', 'dark'));
COMMENT ON COLUMN administrators.must_change_password IS 'the password is a one-time secret: nothing else can be done';
COMMENT ON COLUMN administrators.password_expires_at IS 'a one-time secret that nobody used is worth nothing after that';

CREATE TABLE administrator_sessions (
    hash        bytea PRIMARY KEY,
    administrator_id integer NOT NULL REFERENCES administrators ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    used_at     timestamptz NOT NULL DEFAULT now(),
    authenticated_at timestamptz NOT NULL DEFAULT now(),
    client_address text NOT NULL,
    client      text NOT NULL CHECK (length(client) <= 200)
);
COMMENT ON COLUMN administrator_sessions.authenticated_at IS 'when the password was given last';
CREATE INDEX administrator_sessions_of ON administrator_sessions (administrator_id, created_at);
CREATE INDEX administrator_sessions_at ON administrator_sessions (used_at);

CREATE TABLE administrator_tokens (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    administrator_id integer NOT NULL REFERENCES administrators ON DELETE CASCADE,
    name        text NOT NULL,
    hash        bytea NOT NULL UNIQUE,
    scopes      text[] NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz,
    UNIQUE (administrator_id, name)
);

CREATE TABLE administrator_totp (
    administrator_id integer PRIMARY KEY REFERENCES administrators ON DELETE CASCADE,
    secret      text NOT NULL,
    confirmed_at timestamptz,
    last_counter bigint NOT NULL DEFAULT 0
);
COMMENT ON COLUMN administrator_totp.last_counter IS 'codes of that time and before are used up';
CREATE TABLE administrator_recovery_codes (
    administrator_id integer NOT NULL REFERENCES administrator_totp ON DELETE CASCADE,
    hash        bytea NOT NULL,
    PRIMARY KEY (administrator_id, hash)
);

-- Attempts to log in, by who tried and from where: all API servers count together. The key is a hash, since people type
-- passwords where names belong.
CREATE TABLE login_attempts (
    kind        text NOT NULL CHECK (kind IN ('pair', 'account', 'address', 'tenant')),
    key         bytea NOT NULL,
    failures    integer NOT NULL,
    last_at     timestamptz NOT NULL,
    until       timestamptz NOT NULL,
    good_at     timestamptz,
    PRIMARY KEY (kind, key)
);
COMMENT ON COLUMN login_attempts.until IS 'whoever tries before that waits';
COMMENT ON COLUMN login_attempts.good_at IS 'of a pair: when that account last logged in from that address';
CREATE INDEX login_attempts_at ON login_attempts (last_at);

-- Another password, or a block, ends whatever the account has open. The session that changes its own password stays.
CREATE FUNCTION administrator_revoked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM administrator_sessions WHERE administrator_id = NEW.id
        AND encode(hash, 'hex') IS DISTINCT FROM current_setting('qvd.kept_session', true);
    RETURN NULL;
END $$;
CREATE TRIGGER administrator_revoked AFTER UPDATE OF password, blocked ON administrators FOR EACH ROW
    WHEN (NEW.password <> OLD.password OR (NEW.blocked AND NOT OLD.blocked)) EXECUTE FUNCTION administrator_revoked();

GRANT SELECT, INSERT, UPDATE, DELETE ON administrator_sessions, administrator_tokens, administrator_totp,
    administrator_recovery_codes, login_attempts TO qvd_api;
GRANT UPDATE ON replies TO qvd_api;
