"""Rooms and the messages in them, as people use them."""
