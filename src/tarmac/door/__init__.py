"""The one door in: `catalog` says what can be asked, `dispatch` carries it out, `jobs` and `child` do what takes long."""
