"""Many rooms, a few people in each, and everybody talks."""

from functools import partial

from locust import between

from loadtest.conductor import conduct
from loadtest.users.rooms import RoomUser, open_rooms

ROOMS = 20
conduct("room_chat", users=200, spawn_rate=25, prepare=partial(open_rooms, count=ROOMS))


class Talker(RoomUser):
    """One of about ten in their room."""

    rooms = ROOMS
    wait_time = between(3, 7)
