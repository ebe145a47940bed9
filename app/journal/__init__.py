"""Durable streams: what was acknowledged is here, once and in order. It knows no feature's events."""
