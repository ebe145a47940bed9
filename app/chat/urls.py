"""Chat's HTTP doors."""

from django.urls import path, re_path

from app.chat import views
from app.chat.models import SLUG_PATTERN

app_name = "chat"
urlpatterns = [
    path("", views.index, name="index"),
    re_path(rf"^rooms/(?P<slug>{SLUG_PATTERN})/\Z", views.room, name="room"),
]
