-- Experiments carry tags and know when they were changed; `location` is where somebody wanted their files (a label: the
-- bytes lie in the blob store)
ALTER TABLE experiments ADD COLUMN updated_at {int};
ALTER TABLE experiments ADD COLUMN location {text} NOT NULL DEFAULT '';
-- a project's default experiment has the id 0, as MLflow's clients expect
UPDATE experiments SET id = '0' WHERE name = 'default'
    AND NOT EXISTS (SELECT 1 FROM experiments o WHERE o.project = experiments.project AND o.id = '0');

-- one tag of one experiment
CREATE TABLE experiment_tags (
    experiment {int} NOT NULL REFERENCES experiments (key),
    name {text} NOT NULL,
    value {text} NOT NULL,
    PRIMARY KEY (experiment, name)
) {without_rowid};

-- what an input was used for: training, validation
ALTER TABLE run_inputs ADD COLUMN context {text} NOT NULL DEFAULT '';

-- a file of a project that belongs to no run: paths over blobs
CREATE TABLE loose_files (
    project {int} NOT NULL REFERENCES projects (key),
    path {text} NOT NULL,
    digest {text} NOT NULL,
    size {int} NOT NULL,
    at {int} NOT NULL,
    PRIMARY KEY (project, path)
) {without_rowid};
CREATE INDEX loose_files_by_digest ON loose_files (digest);
