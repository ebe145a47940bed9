"""Who is in which room, on which nodes: soft state that heals by itself, never a truth to build on."""
