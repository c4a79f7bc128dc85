-- Containers and virtual machines: what an OSF grants its VMs, what an image's file is, a VM's place in the network.
-- compatible: 1

ALTER TABLE osfs
    ADD COLUMN cpus real CHECK (cpus > 0),
    ADD COLUMN user_storage_size bigint CHECK (user_storage_size > 0),
    ADD COLUMN persistence text NOT NULL DEFAULT 'home' CHECK (persistence IN ('nothing', 'home', 'everything'));
COMMENT ON COLUMN osfs.cpus IS 'processors that each of its VMs may keep busy; NULL: the node''s default';
COMMENT ON COLUMN osfs.user_storage_size IS 'bytes for the home of each of its VMs; NULL: the node''s default';
COMMENT ON COLUMN osfs.persistence IS 'what a VM''s next run finds of the one before';

ALTER TABLE dis
    ADD COLUMN type text CHECK (type IN ('sandbox', 'lxc', 'kvm')),
    ADD COLUMN size bigint CHECK (size >= 0),
    ADD COLUMN checksum text CHECK (checksum ~ '^[0-9a-f]{64}$');
COMMENT ON COLUMN dis.type IS 'the driver that it is for; NULL: not known, the driver looks itself';
COMMENT ON COLUMN dis.size IS 'bytes of the file; NULL: not known';
COMMENT ON COLUMN dis.checksum IS 'SHA-256 of the file, in hexadecimal digits; NULL: not known, not verified';
