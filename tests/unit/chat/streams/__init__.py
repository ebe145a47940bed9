"""Positions: who joins, comes back or pages gets all of it, once, in order; and nobody else does."""
