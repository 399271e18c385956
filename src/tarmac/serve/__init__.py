"""The runtime that answers: a process of its own that knows no workspace.

It is given package folders and a routes document, and tells what it did in files beside it.
"""
