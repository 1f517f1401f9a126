"""Telling the world: what is to be told, what still must be, and the telling."""
