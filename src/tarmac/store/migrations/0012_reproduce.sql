-- Runs that were done again, and what is to be run when.

-- a verdict on a run that was done again: the document is all of it, with what it rests on
CREATE TABLE reproductions (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    id {text} NOT NULL,
    run {text} NOT NULL,
    verdict {text} NOT NULL,
    document {text} NOT NULL,
    actor {text} NOT NULL,
    at {int} NOT NULL,
    UNIQUE (project, id)
);
CREATE INDEX reproductions_by_run ON reproductions (project, run, id);

-- a pipeline that starts by itself: by a cron line, by events of the ledger (`position` is how far they were looked at)
CREATE TABLE schedules (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    name {text} NOT NULL,
    pipeline {text} NOT NULL,
    folder {text} NOT NULL,
    cron {text} NOT NULL,
    zone {text} NOT NULL,
    triggers {text} NOT NULL,
    params {text} NOT NULL,
    priority {int} NOT NULL,
    origin {text} NOT NULL,
    actor {text} NOT NULL,
    active {int} NOT NULL,
    next_at {int},
    position {int} NOT NULL,
    last_at {int},
    missed {int} NOT NULL,
    created_at {int} NOT NULL,
    UNIQUE (project, name)
);

-- one time that a schedule started something; `mark` says which time that was, so that it is none twice
CREATE TABLE firings (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    schedule {int} NOT NULL REFERENCES schedules (key),
    mark {text} NOT NULL,
    why {text} NOT NULL,
    due_at {int} NOT NULL,
    made_at {int} NOT NULL,
    priority {int} NOT NULL,
    state {text} NOT NULL,
    job {text},
    UNIQUE (schedule, mark)
);
CREATE INDEX firings_waiting ON firings (schedule, key) WHERE state = 'waiting';
CREATE INDEX firings_by_job ON firings (job) WHERE job IS NOT NULL;
