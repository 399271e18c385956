-- How models travel: what was stopped, and what answers instead.

-- an endpoint that was cut; the row goes when the cut is undone, the ledger keeps both
CREATE TABLE cuts (
    project {int} NOT NULL REFERENCES projects (key),
    endpoint {text} NOT NULL,
    fallback {text} NOT NULL,
    outputs {text} NOT NULL,
    reason {text} NOT NULL,
    actor {text} NOT NULL,
    at {int} NOT NULL,
    PRIMARY KEY (project, endpoint)
) {without_rowid};
