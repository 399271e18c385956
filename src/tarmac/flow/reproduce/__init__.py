"""A run done again from nothing: `needs` says what it takes, `packages` and `place` make it, `again` runs it, `compare`
and `causes` judge what came of it, `queries` keeps the verdict."""
