"""As `django-admin startproject` makes them, and what the gateway needs at the end."""

import os
import secrets
from pathlib import Path

DATA = Path(os.environ.get("SITE_DATA") or Path(__file__).resolve().parent.parent)

SECRET_KEY = os.environ.get("SECRET_KEY") or secrets.token_hex()  # set it, so that sessions outlive the server
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
INSTALLED_APPS = [
    "gateway",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "gateway.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
WSGI_APPLICATION = "gateway.wsgi.application"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA / "db.sqlite3", "OPTIONS": {"timeout": 30}}
}
if os.environ.get("PGDATABASE"):  # of PostgreSQL, whose library itself looks at PGHOST, PGUSER and so on
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["PGDATABASE"],
        "CONN_HEALTH_CHECKS": True,
        "CONN_MAX_AGE": 60,
    }
    if os.environ.get("SITE_POOL"):  # at most so many connections, for all threads: each has one for a step, or a call
        pool = {"min_size": 1, "max_size": int(os.environ["SITE_POOL"]), "timeout": 10}
        DATABASES["default"] |= {"OPTIONS": {"pool": pool}, "CONN_MAX_AGE": 0}
LOGGING = {  # errors to the server's log: where DEBUG is not set Django itself only mails them
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"django": {"handlers": ["stderr"], "level": "WARNING", "propagate": False}},
}
USE_TZ = True
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

UPSTREAM = os.environ.get("UPSTREAM", "127.0.0.1:9000")
