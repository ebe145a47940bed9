"""Faults planted into nodes on purpose, each named in PLANTED: the checker is shown to notice them."""
