"""What was said, who was to hear it, who did: records, the judge, the thresholds. No Locust, no gevent."""
