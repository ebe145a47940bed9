"""The servers of a run, each a process of its own. Nothing else in loadtest may import app."""
