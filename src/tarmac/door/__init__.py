"""The one door in: `catalog` says what can be asked, `dispatch` does it, `jobs` and `child` do what takes long."""
