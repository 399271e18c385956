"""How questions about what was kept are answered, and how it changes."""

from tarmac.registry.handlers import compiling, consents, gating, models, moves, packages, purge, versions

__all__ = ["compiling", "consents", "gating", "models", "moves", "packages", "purge", "versions"]
