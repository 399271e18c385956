"""Versions of data: folders of many files and large tables, beside DVC, restic and the limits of the machine."""
