"""The database as a whole: how the event loop asks it, how its schema changes. It knows no tables."""
