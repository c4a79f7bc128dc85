-- Which process of a node serves a session: while a node is upgraded there are two, the new one and the one that keeps
-- the sessions it has. An older node writes no instance; its rows are judged by the epoch alone, as before.
-- compatible: 1

ALTER TABLE sessions ADD COLUMN instance uuid;
COMMENT ON COLUMN sessions.instance IS 'process that serves it; NULL: one of a release that did not say';
