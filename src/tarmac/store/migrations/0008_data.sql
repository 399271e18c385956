-- Data sets and their versions: which packs hold their bytes, and what is said of them.

-- a name with numbered versions; `highest` is the last number given, and no number is given twice
CREATE TABLE data_sets (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    name {text} NOT NULL,
    layout {text} NOT NULL,
    highest {int} NOT NULL,
    created_at {int} NOT NULL,
    UNIQUE (project, name)
);

-- an immutable list of files: `listing` says where its parts lie, `digest` proves every name and every byte of them;
-- `document` is what was found in them: schema, profile, contract report
CREATE TABLE data_versions (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    data_set {int} NOT NULL REFERENCES data_sets (key),
    number {int} NOT NULL,
    digest {text} NOT NULL,
    listing {bytes} NOT NULL,
    document {text} NOT NULL,
    files {int} NOT NULL,
    size {int} NOT NULL,
    added {int} NOT NULL,
    message {text} NOT NULL,
    actor {text} NOT NULL,
    origin {text} NOT NULL,
    created_at {int} NOT NULL,
    deleted_at {int},
    UNIQUE (data_set, number)
);
CREATE INDEX data_versions_by_time ON data_versions (data_set, created_at, number);
CREATE INDEX data_versions_deleted ON data_versions (deleted_at, key) WHERE deleted_at IS NOT NULL;

CREATE TABLE data_tags (
    version {int} NOT NULL REFERENCES data_versions (key),
    name {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (version, name)
) {without_rowid};

-- a pack, or a whole file, that a version needs
CREATE TABLE data_blobs (
    version {int} NOT NULL REFERENCES data_versions (key),
    digest {text} NOT NULL,
    PRIMARY KEY (version, digest)
) {without_rowid};
CREATE INDEX data_blobs_by_digest ON data_blobs (digest);
