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
