-- The log: every object at every revision that is still kept.
--
-- The newest row of a (resource, namespace, name) is the object, unless its kind says that it was deleted; older rows
-- are the history that watches resume from. There is no index but the revision: the server reads the table once, at its
-- start, and only appends and deletes by revision afterwards.
CREATE TABLE log (
    revision  INTEGER PRIMARY KEY,
    resource  TEXT    NOT NULL, -- lower-case plural: 'services'
    namespace TEXT    NOT NULL, -- '' for cluster-scoped resources
    name      TEXT    NOT NULL,
    kind      INTEGER NOT NULL CHECK (kind IN (0, 1, 2)), -- added, modified, deleted
    value     BLOB    NOT NULL  -- JSON; of a deleted object its last state, with the revision of the deletion
) STRICT;

-- 'compacted': every row after this revision is here; up to it only those that are the newest of their key, and those
-- that a later row has replaced.
CREATE TABLE meta (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES ('compacted', 0);
