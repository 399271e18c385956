-- Points of many curves in one row, and outlines of long curves.

-- how many requests brought points: what they and their later segments are numbered by
ALTER TABLE runs ADD COLUMN batches {int} NOT NULL DEFAULT 0;

-- what one request brought for curves with neighbouring numbers; `n` is in the index, so that counting reads nothing else
CREATE TABLE metric_sheets (
    run {int} NOT NULL,
    part {int} NOT NULL,
    number {int} NOT NULL,
    n {int} NOT NULL,
    points {bytes} NOT NULL,
    PRIMARY KEY (run, part, number, n)
);

-- the lowest and highest points along a segment, by its number; a segment without one is read itself
CREATE TABLE metric_outlines (
    run {int} NOT NULL,
    key {int} NOT NULL,
    number {int} NOT NULL,
    n {int} NOT NULL,
    first_step {int} NOT NULL,
    last_step {int} NOT NULL,
    points {bytes} NOT NULL,
    PRIMARY KEY (run, key, number)
) {without_rowid};

-- `metric_tails`, and `tail_n` and `segments` of `metrics`, are of format 2: tails are read and packed, not written
