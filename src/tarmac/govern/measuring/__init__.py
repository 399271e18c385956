"""Measuring what rules name, of a version and of its champion: each thing once, and what fails says why.

`subject` brings the bytes, `table` reads the rows, `model` predicts; `scores`, `fairness`, `robustness`, `challenge`,
`latency` and `contents` each measure one kind of fact and know nothing of the others.
"""
