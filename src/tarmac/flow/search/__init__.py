"""Trials over a space of parameters: `space` says what may be tried, `study` what is tried next (Optuna), `trials`
keeps each trial as a run below the search's run, `function` is `tarmac.search(...)`."""
