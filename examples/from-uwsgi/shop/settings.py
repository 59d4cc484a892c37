"""Of a site without a database: the basket is in a signed cookie."""

import os

SECRET_KEY = os.environ["SECRET_KEY"]  # each worker has to have the same
ALLOWED_HOSTS = ["shop.example.org", "127.0.0.1", "localhost"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
USE_TZ = True
