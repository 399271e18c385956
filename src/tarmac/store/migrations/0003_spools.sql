-- how far what a training process left behind has been carried into the store, so that nothing is taken in twice
CREATE TABLE spools (
    id {text} PRIMARY KEY,
    run {int} NOT NULL,
    position {int} NOT NULL
) {without_rowid};
CREATE INDEX spools_by_run ON spools (run);
