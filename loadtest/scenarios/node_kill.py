"""A node is killed while people talk, and comes back."""

from locust import between

from loadtest.conductor import conduct
from loadtest.users.rooms import RoomUser, open_rooms

conduct("node_kill", users=100, spawn_rate=25, prepare=open_rooms, disturbance="node_kill")


class Talker(RoomUser):
    """Who is told to go elsewhere, or finds nobody there, comes back and goes on where they were."""

    wait_time = between(3, 7)
