"""Every connection is lost at the same moment, and everybody comes back with what they had."""

from locust import between

from loadtest.conductor import LOSE, conduct
from loadtest.users.rooms import RoomUser, open_rooms

conduct("reconnect_storm", users=200, spawn_rate=25, prepare=open_rooms, disturbance=LOSE)


class Talker(RoomUser):
    """Their network ends when they are told."""

    wait_time = between(3, 7)
