"""As the site's wsgi.py; with Sentry's SDK at its default settings if SENTRY is set."""

import os

from gateway_tested import told

os.environ["DJANGO_SETTINGS_MODULE"] = "gateway_tested.settings"

if os.environ.get("SENTRY"):
    told.begin()

from gateway.wsgi import application  # noqa: E402

__all__ = ["application"]
