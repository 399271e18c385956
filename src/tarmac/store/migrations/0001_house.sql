-- The house: projects, people, experiments and runs, blobs and manifests, lineage, jobs, the ledger.
-- Tokens in braces are filled in for each database by the runner.

-- what the store knows of itself: which key signs its ledger
CREATE TABLE facts (
    name {text} PRIMARY KEY,
    value {text} NOT NULL
);

CREATE TABLE projects (
    key {key},
    name {text} NOT NULL UNIQUE,
    created_at {int} NOT NULL
);

-- people ------------------------------------------------------------------------------------------------------------

CREATE TABLE persons (
    id {text} PRIMARY KEY,
    name {text} NOT NULL UNIQUE,
    created_at {int} NOT NULL,
    disabled_at {int}
);

-- a grant for the project `*` holds in all of them
CREATE TABLE grants (
    project {text} NOT NULL,
    person {text} NOT NULL REFERENCES persons (id),
    role {text} NOT NULL,
    granted_at {int} NOT NULL,
    PRIMARY KEY (project, person)
);
CREATE INDEX grants_by_person ON grants (person);

CREATE TABLE tokens (
    id {text} PRIMARY KEY,
    person {text} NOT NULL REFERENCES persons (id),
    project {text} NOT NULL,
    secret_digest {text} NOT NULL UNIQUE,
    note {text} NOT NULL,
    permissions {text} NOT NULL,
    created_at {int} NOT NULL,
    expires_at {int} NOT NULL,
    revoked_at {int}
);
CREATE INDEX tokens_by_person ON tokens (person);

-- track -------------------------------------------------------------------------------------------------------------

CREATE TABLE experiments (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    id {text} NOT NULL,
    name {text} NOT NULL,
    note {text} NOT NULL,
    created_at {int} NOT NULL,
    UNIQUE (project, id),
    UNIQUE (project, name)
);

CREATE TABLE runs (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    id {text} NOT NULL,
    experiment {int} NOT NULL REFERENCES experiments (key),
    parent {int} REFERENCES runs (key),
    name {text} NOT NULL,
    status {text} NOT NULL,
    actor {text} NOT NULL,
    started_at {int} NOT NULL,
    ended_at {int},
    UNIQUE (project, id)
);
CREATE INDEX runs_by_time ON runs (project, started_at, key);
CREATE INDEX runs_by_experiment ON runs (experiment, started_at, key);
CREATE INDEX runs_by_parent ON runs (parent);

-- bytes -------------------------------------------------------------------------------------------------------------

-- a blob exists when its row says so; `refs` counts the manifests that need it
CREATE TABLE blobs (
    project {int} NOT NULL REFERENCES projects (key),
    digest {text} NOT NULL,
    size {int} NOT NULL,
    state {text} NOT NULL,
    place {text} NOT NULL,
    blocks {bytes} NOT NULL,
    refs {int} NOT NULL,
    touched_at {int} NOT NULL,
    PRIMARY KEY (project, digest)
);
CREATE INDEX blobs_by_refs ON blobs (refs, state, touched_at);
CREATE INDEX blobs_by_place ON blobs (place);

CREATE TABLE manifests (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    id {text} NOT NULL,
    kind {text} NOT NULL,
    digest {text} NOT NULL,
    files {int} NOT NULL,
    size {int} NOT NULL,
    created_at {int} NOT NULL,
    UNIQUE (project, id)
);
CREATE INDEX manifests_by_digest ON manifests (project, digest);

CREATE TABLE manifest_files (
    manifest {int} NOT NULL REFERENCES manifests (key),
    path {text} NOT NULL,
    digest {text} NOT NULL,
    size {int} NOT NULL,
    PRIMARY KEY (manifest, path)
) {without_rowid};

-- lineage -----------------------------------------------------------------------------------------------------------

-- `source` had a part in making `target`; both are written `kind/id`
CREATE TABLE lineage (
    project {int} NOT NULL REFERENCES projects (key),
    source {text} NOT NULL,
    target {text} NOT NULL,
    how {text} NOT NULL,
    at {int} NOT NULL,
    PRIMARY KEY (project, source, target, how)
) {without_rowid};
CREATE INDEX lineage_by_target ON lineage (project, target);

-- jobs --------------------------------------------------------------------------------------------------------------

CREATE TABLE jobs (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    id {text} NOT NULL,
    operation {text} NOT NULL,
    request {text} NOT NULL,
    state {text} NOT NULL,
    actor {text} NOT NULL,
    done {int} NOT NULL,
    total {int} NOT NULL,
    message {text} NOT NULL,
    checkpoint {text} NOT NULL,
    answer {text} NOT NULL,
    error {text} NOT NULL,
    log {text} NOT NULL,
    tries {int} NOT NULL,
    cancel_requested {int} NOT NULL,
    created_at {int} NOT NULL,
    heartbeat_at {int} NOT NULL,
    ended_at {int},
    UNIQUE (project, id)
);
CREATE INDEX jobs_by_state ON jobs (state, key);

-- the ledger --------------------------------------------------------------------------------------------------------

CREATE TABLE seals (
    number {int} PRIMARY KEY,
    first_position {int} NOT NULL,
    events {int} NOT NULL,
    sealed_at {int} NOT NULL,
    batch_digest {text} NOT NULL,
    previous {text} NOT NULL,
    digest {text} NOT NULL,
    signature {text} NOT NULL
);

-- the chain covers `payload_digest`, so that a payload can be erased (NULL) without breaking it
CREATE TABLE events (
    position {int} PRIMARY KEY,
    project {text} NOT NULL,
    at {int} NOT NULL,
    actor {text} NOT NULL,
    operation {text} NOT NULL,
    subject {text} NOT NULL,
    payload {bytes},
    payload_digest {text} NOT NULL
);
CREATE INDEX events_by_project ON events (project, position);
CREATE INDEX events_by_subject ON events (project, subject, position);

-- where several servers commit at once (Postgres), events wait here until the sealer gives them a position
CREATE TABLE pending_events (
    key {key},
    project {text} NOT NULL,
    at {int} NOT NULL,
    actor {text} NOT NULL,
    operation {text} NOT NULL,
    subject {text} NOT NULL,
    payload {bytes} NOT NULL,
    payload_digest {text} NOT NULL
);
