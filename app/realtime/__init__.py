"""The engine: an event from any node to every local connection.

It knows groups and bytes, no models and no features, and never waits for Redis on a connection's behalf.
"""
