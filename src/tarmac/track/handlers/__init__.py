"""The verbs of tracking: `runs` changes things, `looking` answers, the others do what they say."""

from tarmac.track.handlers import experiments, files, looking, loose, removal, runs

__all__ = ["experiments", "files", "looking", "loose", "removal", "runs"]
