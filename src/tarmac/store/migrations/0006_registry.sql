-- What was kept: packages, models with their versions, aliases and where those pointed when.

-- an immutable bundle that can predict; while it is pending its files may still come, `manifest` seals them
CREATE TABLE packages (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    id {text} NOT NULL,
    name {text} NOT NULL,
    kind {text} NOT NULL,
    state {text} NOT NULL,
    run {text},
    experiment {text},
    manifest {text},
    digest {text},
    files {int} NOT NULL,
    size {int} NOT NULL,
    document {text} NOT NULL,
    actor {text} NOT NULL,
    created_at {int} NOT NULL,
    updated_at {int} NOT NULL,
    deleted_at {int},
    UNIQUE (project, id)
);
CREATE INDEX packages_by_time ON packages (project, created_at, key);
CREATE INDEX packages_by_name ON packages (project, name);
CREATE INDEX packages_by_run ON packages (project, run) WHERE run IS NOT NULL;
CREATE INDEX packages_by_manifest ON packages (manifest) WHERE manifest IS NOT NULL;
CREATE INDEX packages_deleted ON packages (deleted_at, key) WHERE deleted_at IS NOT NULL;

-- a file of a package that is not sealed yet
CREATE TABLE package_files (
    package {int} NOT NULL REFERENCES packages (key),
    path {text} NOT NULL,
    digest {text} NOT NULL,
    size {int} NOT NULL,
    PRIMARY KEY (package, path)
) {without_rowid};
CREATE INDEX package_files_by_digest ON package_files (digest);

CREATE TABLE package_params (
    package {int} NOT NULL REFERENCES packages (key),
    name {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (package, name)
) {without_rowid};

CREATE TABLE package_tags (
    package {int} NOT NULL REFERENCES packages (key),
    name {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (package, name)
) {without_rowid};

-- how well a package did, measured by which run on which data; NULL stands for NaN
CREATE TABLE package_metrics (
    package {int} NOT NULL REFERENCES packages (key),
    name {text} NOT NULL,
    run {text} NOT NULL,
    data {text} NOT NULL,
    data_digest {text} NOT NULL,
    step {int} NOT NULL,
    value {real},
    at {int} NOT NULL,
    PRIMARY KEY (package, name, run, data, data_digest, step)
) {without_rowid};

-- a run that made a package or was given it
CREATE TABLE package_runs (
    project {int} NOT NULL REFERENCES projects (key),
    run {text} NOT NULL,
    package {int} NOT NULL REFERENCES packages (key),
    part {text} NOT NULL,
    step {int} NOT NULL,
    PRIMARY KEY (project, run, package, part)
) {without_rowid};
CREATE INDEX package_runs_by_package ON package_runs (package);

-- a name with numbered versions; `highest` is the last number given, and no number is given twice
CREATE TABLE models (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    id {text} NOT NULL,
    name {text} NOT NULL,
    note {text} NOT NULL,
    highest {int} NOT NULL,
    actor {text} NOT NULL,
    created_at {int} NOT NULL,
    updated_at {int} NOT NULL,
    deleted_at {int},
    UNIQUE (project, id)
);
CREATE UNIQUE INDEX models_by_name ON models (project, name) WHERE deleted_at IS NULL;
CREATE INDEX models_by_any_name ON models (project, name, key);

CREATE TABLE model_tags (
    model {int} NOT NULL REFERENCES models (key),
    name {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (model, name)
) {without_rowid};

-- `source` is where a version comes from, as its maker wrote it, and `location` where its bytes are outside of tarmac
CREATE TABLE versions (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    id {text} NOT NULL,
    model {int} NOT NULL REFERENCES models (key),
    number {int} NOT NULL,
    stage {text} NOT NULL,
    package {int} REFERENCES packages (key),
    source {text} NOT NULL,
    location {text} NOT NULL,
    run {text},
    link {text} NOT NULL,
    note {text} NOT NULL,
    actor {text} NOT NULL,
    created_at {int} NOT NULL,
    updated_at {int} NOT NULL,
    deleted_at {int},
    UNIQUE (project, id),
    UNIQUE (model, number)
);
CREATE INDEX versions_by_time ON versions (project, updated_at, key);
CREATE INDEX versions_by_stage ON versions (model, stage, number);
CREATE INDEX versions_by_package ON versions (package) WHERE package IS NOT NULL;
CREATE INDEX versions_by_run ON versions (project, run) WHERE run IS NOT NULL;

CREATE TABLE version_tags (
    version {int} NOT NULL REFERENCES versions (key),
    name {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (version, name)
) {without_rowid};

-- a pointer that can be moved; `move` is the one that brought it where it points
CREATE TABLE aliases (
    model {int} NOT NULL REFERENCES models (key),
    name {text} NOT NULL,
    version {int} NOT NULL REFERENCES versions (key),
    move {int} NOT NULL,
    PRIMARY KEY (model, name)
) {without_rowid};
CREATE INDEX aliases_by_version ON aliases (version);

-- one move of an alias, never changed; `below` is the move that a rollback goes back to
CREATE TABLE alias_moves (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    id {text} NOT NULL,
    model {int} NOT NULL REFERENCES models (key),
    alias {text} NOT NULL,
    how {text} NOT NULL,
    from_number {int},
    to_number {int},
    below {int},
    at {int} NOT NULL,
    actor {text} NOT NULL,
    reason {text} NOT NULL,
    evidence {text} NOT NULL,
    UNIQUE (project, id)
);
CREATE INDEX alias_moves_by_alias ON alias_moves (model, alias, key);
CREATE INDEX alias_moves_by_time ON alias_moves (model, at, key);
