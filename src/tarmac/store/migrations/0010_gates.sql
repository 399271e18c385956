-- What has to hold before an alias moves, what was measured for it, who consented, and what was signed.

-- the rules of one alias of one model, by names: they hold before the model is there, and after it was renamed away
CREATE TABLE gates (
    project {int} NOT NULL REFERENCES projects (key),
    model {text} NOT NULL,
    folded {text} NOT NULL,
    alias {text} NOT NULL,
    document {text} NOT NULL,
    digest {text} NOT NULL,
    origin {text} NOT NULL,
    manifest {text},
    actor {text} NOT NULL,
    updated_at {int} NOT NULL,
    PRIMARY KEY (project, model, folded)
) {without_rowid};
CREATE INDEX gates_by_manifest ON gates (manifest) WHERE manifest IS NOT NULL;

-- one measurement for one gate: of which version against which champion under which rules; never changed
CREATE TABLE gate_checks (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    id {text} NOT NULL,
    model {int} NOT NULL REFERENCES models (key),
    folded {text} NOT NULL,
    version {text} NOT NULL,
    document {text} NOT NULL,
    digest {text} NOT NULL,
    at {int} NOT NULL,
    actor {text} NOT NULL,
    UNIQUE (project, id)
);
CREATE INDEX gate_checks_by_version ON gate_checks (model, version, folded, key);

-- a person's consent to one digest, or a key's
CREATE TABLE approvals (
    key {key},
    project {int} NOT NULL REFERENCES projects (key),
    id {text} NOT NULL,
    model {int} NOT NULL REFERENCES models (key),
    package_digest {text} NOT NULL,
    document {text} NOT NULL,
    digest {text} NOT NULL,
    at {int} NOT NULL,
    actor {text} NOT NULL,
    withdrawn_at {int},
    UNIQUE (project, id)
);
CREATE INDEX approvals_by_digest ON approvals (model, package_digest, key);

-- an OpenSSF model signature of a package, as the file that its tool writes
CREATE TABLE signatures (
    package {int} NOT NULL REFERENCES packages (key),
    digest {text} NOT NULL,
    key_hint {text} NOT NULL,
    bundle {text} NOT NULL,
    actor {text} NOT NULL,
    at {int} NOT NULL,
    PRIMARY KEY (package, digest)
) {without_rowid};
