-- What pipelines leave behind: results of steps by the key of what they were made from, and what each run did.

-- what a step made; `id` is the key of all it was made from, `made_of` says what that was
CREATE TABLE step_results (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    id {text} NOT NULL,
    pipeline {text} NOT NULL,
    node {text} NOT NULL,
    step {text} NOT NULL,
    run {text} NOT NULL,
    actor {text} NOT NULL,
    outputs {text} NOT NULL,
    made_of {text} NOT NULL,
    manifest {text},
    seconds {real} NOT NULL,
    held {real} NOT NULL,
    created_at {int} NOT NULL,
    used_at {int} NOT NULL,
    not_kept {text} NOT NULL,
    UNIQUE (project, id)
);
CREATE INDEX step_results_by_node ON step_results (project, pipeline, node, used_at);
CREATE INDEX step_results_by_use ON step_results (project, used_at);
CREATE INDEX step_results_by_manifest ON step_results (manifest) WHERE manifest IS NOT NULL;

-- one call of a step for each of many items: what all of its items have in common is its `id`
CREATE TABLE step_groups (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    id {text} NOT NULL,
    pipeline {text} NOT NULL,
    node {text} NOT NULL,
    used_at {int} NOT NULL,
    UNIQUE (project, id)
);
CREATE INDEX step_groups_by_use ON step_groups (project, used_at);

-- what a step made of one item; small results stand here, larger ones are blobs
CREATE TABLE step_items (
    step_group {int} NOT NULL REFERENCES step_groups (key),
    id {bytes} NOT NULL,
    output {bytes} NOT NULL,
    PRIMARY KEY (step_group, id)
) {without_rowid};

-- the blobs that an item's result needs
CREATE TABLE step_item_blobs (
    step_group {int} NOT NULL REFERENCES step_groups (key),
    id {bytes} NOT NULL,
    digest {text} NOT NULL,
    PRIMARY KEY (step_group, id, digest)
) {without_rowid};
CREATE INDEX step_item_blobs_by_digest ON step_item_blobs (digest);

-- the text of a function, class or constant that results were made by, so that a later difference can be shown
CREATE TABLE step_code (
    project {int} NOT NULL REFERENCES projects (key),
    digest {text} NOT NULL,
    label {text} NOT NULL,
    file {text} NOT NULL,
    line {int} NOT NULL,
    text {text} NOT NULL,
    used_at {int} NOT NULL,
    PRIMARY KEY (project, digest)
) {without_rowid};

-- what became of each step in one run of a pipeline: it ran, was reused, was left out, failed
CREATE TABLE pipeline_steps (
    run {int} NOT NULL REFERENCES runs (key),
    number {int} NOT NULL,
    node {text} NOT NULL,
    step {text} NOT NULL,
    done {text} NOT NULL,
    why {text} NOT NULL,
    step_run {text} NOT NULL,
    result {text} NOT NULL,
    seconds {real} NOT NULL,
    PRIMARY KEY (run, node)
) {without_rowid};
