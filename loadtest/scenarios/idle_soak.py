"""Almost everybody is silent for a long time, and nobody is lost over it. `STEADY=3600` makes it a soak."""

from functools import partial

from locust import between, constant_pacing

from loadtest.conductor import conduct
from loadtest.users.rooms import RoomUser, open_rooms

conduct("idle_soak", users=500, spawn_rate=50, prepare=partial(open_rooms, count=1))


class Talker(RoomUser):
    """So that there is something to hear."""

    rooms = 1
    fixed_count = 5
    wait_time = between(5, 10)


class Idler(RoomUser):
    """Says only that they are there."""

    rooms = 1
    talks = False
    wait_time = constant_pacing(20)
