"""Redis' replica becomes the primary while people talk."""

from locust import between

from loadtest.conductor import conduct
from loadtest.users.rooms import RoomUser, open_rooms

conduct("failover", users=100, spawn_rate=25, prepare=open_rooms, disturbance="failover")


class Talker(RoomUser):
    """Who is told to go elsewhere, or finds nobody there, comes back and goes on where they were."""

    wait_time = between(3, 7)
