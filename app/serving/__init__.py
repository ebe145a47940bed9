"""How a node runs: gunicorn worker, direct-write WebSocket protocol, internal port. It knows no feature."""
