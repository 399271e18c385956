"""How questions about the ledger are answered, how gates are set, asked and measured for, and versions compared."""

from tarmac.govern.handlers import audit, checks, comparing, gates

__all__ = ["audit", "checks", "comparing", "gates"]
