"""Four times as many people, all at once, while the others talk."""

from locust import between

from loadtest.conductor import conduct
from loadtest.shapes.spike import Spike
from loadtest.users.rooms import RoomUser, open_rooms

__all__ = ["Spike", "Talker"]
conduct("spike", users=200, spawn_rate=25, prepare=open_rooms)


class Talker(RoomUser):
    """Wherever they come in, they hear what is said from then on."""

    wait_time = between(3, 7)
