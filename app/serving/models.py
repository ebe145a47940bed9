"""What the nodes have the database bear witness of: whom each of them hears, and who may leave because of it.

Soft state of the last seconds, judged by the database's clock alone: nothing here is missed when it is gone.
"""

from django.db import models


class NodeNote(models.Model):
    """What one node last noted of itself. `misses`: incarnations apart by commas, `*` for all."""

    incarnation = models.CharField(max_length=32, primary_key=True)
    name = models.CharField(max_length=63)
    version = models.CharField(max_length=32)
    bus = models.CharField(max_length=64)
    misses = models.TextField()
    state = models.CharField(max_length=16)
    noted_at = models.DateTimeField()

    class Meta:
        db_table = "serving_node"

    def __str__(self) -> str:
        return self.name


class Turn(models.Model):
    """What one node at a time may do: `holder` may, until `until`."""

    what = models.CharField(max_length=32, primary_key=True)
    holder = models.CharField(max_length=32)
    until = models.DateTimeField()

    class Meta:
        db_table = "serving_turn"

    def __str__(self) -> str:
        return f"{self.what}: {self.holder}"
