-- What runs carry: params, tags, metrics, artifacts, inputs, logs, what they were started from.

ALTER TABLE experiments ADD COLUMN deleted_at {int};
ALTER TABLE runs ADD COLUMN note {text} NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN heartbeat_at {int};
ALTER TABLE runs ADD COLUMN deleted_at {int};
-- indexes of what few runs have cost the others nothing
CREATE INDEX runs_deleted ON runs (deleted_at, key) WHERE deleted_at IS NOT NULL;
CREATE INDEX runs_alive ON runs (heartbeat_at) WHERE status = 'running' AND heartbeat_at IS NOT NULL;
DROP INDEX runs_by_parent;
CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL;

-- the dictionary: keys of params, tags and metrics as numbers
CREATE TABLE names (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    name {text} NOT NULL,
    UNIQUE (project, name)
);

-- what is written most refers to runs and names by number, unchecked: its writers have just looked both up
CREATE TABLE params (
    run {int} NOT NULL,
    key {int} NOT NULL,
    value {text} NOT NULL,
    rest {text} NOT NULL,
    number {real},
    PRIMARY KEY (run, key)
) {without_rowid};
-- `value` is the first 100 characters and `rest` what comes after them: texts are kept whole, and an index of their
-- beginnings answers by itself; what reads as a number is one too
CREATE INDEX params_by_value ON params (key, value, run);
CREATE INDEX params_by_number ON params (key, number, run) WHERE number IS NOT NULL;

CREATE TABLE tags (
    run {int} NOT NULL,
    key {int} NOT NULL,
    value {text} NOT NULL,
    rest {text} NOT NULL,
    PRIMARY KEY (run, key)
) {without_rowid};
CREATE INDEX tags_by_value ON tags (key, value, run);

-- the summary of one curve; NULL stands for NaN, so that it compares with nothing and sorts last
CREATE TABLE metrics (
    run {int} NOT NULL,
    key {int} NOT NULL,
    last {real},
    last_step {int} NOT NULL,
    last_at {int} NOT NULL,
    min {real},
    max {real},
    n {int} NOT NULL,
    tail_n {int} NOT NULL,
    segments {int} NOT NULL,
    PRIMARY KEY (run, key)
) {without_rowid};
CREATE INDEX metrics_by_value ON metrics (key, last, run);

-- the newest points of a curve, 24 bytes each; when there are many they move on into a packed segment
CREATE TABLE metric_tails (
    run {int} NOT NULL,
    key {int} NOT NULL,
    points {bytes} NOT NULL,
    PRIMARY KEY (run, key)
) {without_rowid};

CREATE TABLE metric_segments (
    run {int} NOT NULL,
    key {int} NOT NULL,
    number {int} NOT NULL,
    n {int} NOT NULL,
    points {bytes} NOT NULL,
    PRIMARY KEY (run, key, number)
);

CREATE TABLE artifacts (
    run {int} NOT NULL REFERENCES runs (key),
    path {text} NOT NULL,
    digest {text} NOT NULL,
    size {int} NOT NULL,
    at {int} NOT NULL,
    PRIMARY KEY (run, path)
) {without_rowid};
CREATE INDEX artifacts_by_digest ON artifacts (digest);

-- data sets and packages a run was given
CREATE TABLE run_inputs (
    run {int} NOT NULL REFERENCES runs (key),
    name {text} NOT NULL,
    version {text} NOT NULL,
    document {text} NOT NULL,
    PRIMARY KEY (run, name, version)
) {without_rowid};
CREATE INDEX run_inputs_by_name ON run_inputs (name, version, run);

CREATE TABLE run_logs (
    run {int} NOT NULL REFERENCES runs (key),
    start {int} NOT NULL,
    text {text} NOT NULL,
    PRIMARY KEY (run, start)
);

-- how a run was started: command line, commit, machine, packages (one JSON document) and its source tree
CREATE TABLE run_facts (
    run {int} PRIMARY KEY REFERENCES runs (key),
    document {text} NOT NULL,
    source {text}
);
CREATE INDEX run_facts_by_source ON run_facts (source) WHERE source IS NOT NULL;
