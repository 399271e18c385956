"""The SQL of tracking: `rows` of runs and experiments, how both are found, curves, groups, files, removal."""
