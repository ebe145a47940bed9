"""Metrics, health and logs. It looks on: nothing here changes what a node does."""
