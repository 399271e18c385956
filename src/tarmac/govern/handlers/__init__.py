"""How questions about the ledger are answered, and how gates are set, asked and measured for."""

from tarmac.govern.handlers import audit, checks, gates

__all__ = ["audit", "checks", "gates"]
