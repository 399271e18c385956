-- Compiled forms: made of a package later, proved against it, and kept beside it.

-- what came of compiling a package; `manifest` lists the report and, if there is one, the model
CREATE TABLE compiled (
    package {int} NOT NULL REFERENCES packages (key),
    equal {int} NOT NULL,
    why {text} NOT NULL,
    digest {text} NOT NULL,
    manifest {text} NOT NULL,
    proof {text} NOT NULL,
    actor {text} NOT NULL,
    at {int} NOT NULL,
    PRIMARY KEY (package)
) {without_rowid};
CREATE INDEX compiled_by_manifest ON compiled (manifest);
