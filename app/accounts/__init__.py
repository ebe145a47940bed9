"""Who a connection belongs to, and what they may do right now."""
