"""One to many: two speak, everybody else listens."""

from functools import partial

from locust import constant_pacing

from loadtest.conductor import conduct
from loadtest.users.rooms import RoomUser, open_rooms

conduct("broadcast", users=200, spawn_rate=25, prepare=partial(open_rooms, count=1))


class Speaker(RoomUser):
    """Twice a second."""

    rooms = 1
    fixed_count = 2
    wait_time = constant_pacing(0.5)


class Listener(RoomUser):
    """Says nothing."""

    rooms = 1
    talks = False
    wait_time = constant_pacing(5)
