"""The Django project: everything that ships in the image."""
