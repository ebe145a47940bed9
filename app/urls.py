"""Every HTTP door."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("app.chat.urls")),
    path("accounts/", include("app.accounts.urls")),
    path("admin/", admin.site.urls),
]
