"""What is said on any node comes to everybody on every other: once, in order, unaltered, and by the bus.

Messages are stored, so the database would bring them across a cut bus; markers are not, and the nodes' own
counters say whether anything had to be mended.
"""

from locust import between

from loadtest.conductor import conduct
from loadtest.users.markers import MarkerUser
from loadtest.users.rooms import RoomUser, open_rooms

conduct("cross_node", users=100, spawn_rate=25, prepare=open_rooms)


class Talker(RoomUser):
    """Four of five."""

    weight = 4
    wait_time = between(3, 7)


class Marker(MarkerUser):
    """One of five."""

    weight = 1
    wait_time = between(1, 3)
