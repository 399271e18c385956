"""Bytes by their digest. A blob exists when its row says so; the file behind it is only where the row points.

Each upload gets a place of its own (digest and a nonce), so deleting an old copy can never touch a new one.
"""
