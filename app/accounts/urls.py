"""The HTTP doors of accounts."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from app.accounts import views

app_name = "accounts"
urlpatterns = [
    path("log-in/", views.LogIn.as_view(), name="log_in"),
    path("log-out/", LogoutView.as_view(), name="log_out"),
    path("sign-up/", views.SignUp.as_view(), name="sign_up"),
    path("guest/", views.Guest.as_view(), name="guest"),
    path("ticket/", views.ticket, name="ticket"),
]
