"""People come and go all the time, while others talk."""

from locust import between

from loadtest.conductor import conduct
from loadtest.users.rooms import Passer, RoomUser, open_rooms

conduct("presence_churn", users=100, spawn_rate=25, prepare=open_rooms)


class Talker(RoomUser):
    """They stay."""

    wait_time = between(3, 7)


class Visitor(Passer):
    """They leave and come again."""

    wait_time = between(1, 4)
