"""What a load test says by `group_send`, to see the bus itself: it is not stored, so nothing mends it."""
