"""One locustfile for each scenario: `locust -f loadtest/scenarios/cross_node.py`."""
