"""The site's own settings, and what is tested with them."""

import os

from gateway.settings import *  # noqa: F403
from gateway.settings import DATABASES, INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework"]
ROOT_URLCONF = "gateway_tested.urls"

if os.environ.get("UNCHECKED"):  # connections are not looked at before they are used: Django's default
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = False

if os.environ.get("HELD"):
    MIDDLEWARE = ["gateway_tested.middleware.Holding", *MIDDLEWARE]
