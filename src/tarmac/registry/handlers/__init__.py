"""How questions about what was kept are answered, and how it changes."""

from tarmac.registry.handlers import models, moves, packages, purge, versions

__all__ = ["models", "moves", "packages", "purge", "versions"]
