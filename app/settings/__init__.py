"""All configuration, read from the environment and checked at start (docs/settings.md has every variable).

Nothing else reads the environment; everything else reads `django.conf.settings`. In production no secret
has a default, and a wrong value ends the start with one line that names the variable.
"""

import sys

from environs import EnvError

try:
    from app.settings.bus import *
    from app.settings.channels import *
    from app.settings.connections import *
    from app.settings.database import *
    from app.settings.django import *
    from app.settings.doors import *
    from app.settings.journal import *
    from app.settings.node import *
    from app.settings.observability import *
except EnvError as error:
    sys.exit(f"carillon: {error}".replace("['", "").replace("']", ""))  # marshmallow says it as a list
