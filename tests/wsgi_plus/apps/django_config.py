"""A Django with all that it brings, for the tests of wsgi_plus.django.  Its data go with the process."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
]

TEMPLATES = {
    "404.html": "nothing at {{ request_path }}",
    "page.html": "{{ word }} {% for message in messages %}[{{ message }}]{% endfor %}",
    "form.html": '<form>{% csrf_token %}</form>{% load i18n %}{% trans "Yes" %}',
}


def configure(root_urlconf: str, **more: Any) -> Path:
    """Sets Django up with migrated tables, and gives the directory of its data."""
    data = Path(tempfile.mkdtemp(prefix="wsgi_plus-django-"))
    mine = os.getpid()
    atexit.register(lambda: os.getpid() == mine and shutil.rmtree(data, ignore_errors=True))
    settings.configure(
        **{
            "SECRET_KEY": "for tests only",
            "ALLOWED_HOSTS": ["*"],
            "ROOT_URLCONF": root_urlconf,
            "INSTALLED_APPS": [
                "django.contrib.auth",
                "django.contrib.contenttypes",
                "django.contrib.sessions",
                "django.contrib.messages",
            ],
            "MIDDLEWARE": MIDDLEWARE,
            "DATABASES": {
                "default": {
                    "ENGINE": "django.db.backends.sqlite3",
                    "NAME": data / "db.sqlite3",
                    "OPTIONS": {"timeout": 30},
                },
                "far": {"ENGINE": "django_dropping", "NAME": data / "far.sqlite3"},  # drops connections when it is told
            },
            "CACHES": {
                name: {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": name}
                for name in ("default", "other")
            },
            "TEMPLATES": [
                {
                    "BACKEND": "django.template.backends.django.DjangoTemplates",
                    "OPTIONS": {
                        "loaders": [("django.template.loaders.locmem.Loader", TEMPLATES)],
                        "context_processors": [
                            "django.template.context_processors.request",
                            "django.contrib.auth.context_processors.auth",
                            "django.contrib.messages.context_processors.messages",
                        ],
                    },
                }
            ],
            "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
            "LANGUAGES": [("en", "English"), ("de", "German"), ("fr", "French"), ("pl", "Polish")],
            "USE_TZ": True,
            "LOGGING_CONFIG": None,
            "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
            **more,
        }
    )
    django.setup()
    call_command("migrate", verbosity=0)
    return data
