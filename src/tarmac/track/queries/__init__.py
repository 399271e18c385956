"""The SQL of tracking: `rows` of experiments and runs, `search`, `curves`, `group`, `files`, `removal`."""
