"""What tries Carillon from outside: a stranger who speaks the wire protocol and imports nothing of app."""
