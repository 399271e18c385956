"""The verbs of tracking: `runs` changes things, `looking` answers, `files` and `removal` do what they say."""

from tarmac.track.handlers import files, looking, removal, runs

__all__ = ["files", "looking", "removal", "runs"]
