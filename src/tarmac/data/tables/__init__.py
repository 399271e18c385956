"""Tables among the data: read in batches, judged by their contract, profiled, compared row by row.

All of it needs the extra `data`; data sets of files of any kind do not.
"""
