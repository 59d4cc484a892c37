"""A Django view as most are: three queries, and a template.  PostgreSQL is at BENCH_POSTGRES, with psycopg 3.

Each request is for another user, whose page is as long as any other's.
"""

import itertools
import os

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import path

TEMPLATE = """<!doctype html><title>{{ user.name }}</title><h1>{{ user.name }}: {{ total }} items</h1>
<table>{% for item in items %}<tr><td>{{ item.name }}<td>{{ item.price }}{% endfor %}</table>
"""
USERS = 1000

settings.configure(
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="not a secret",
    USE_TZ=True,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "bench",
            "HOST": os.environ["BENCH_POSTGRES"],
            "CONN_MAX_AGE": None,
        }
    },
)
django.setup(set_prefix=False)


class User(models.Model):
    id = models.IntegerField(primary_key=True)
    name = models.TextField()

    class Meta:
        app_label, db_table, managed = "bench", "bench_user", False


class Item(models.Model):
    id = models.IntegerField(primary_key=True)
    user = models.ForeignKey(User, models.DO_NOTHING)
    name = models.TextField()
    price = models.IntegerField()

    class Meta:
        app_label, db_table, managed = "bench", "bench_item", False


template = engines["django"].from_string(TEMPLATE)
turn = itertools.count()


def page(request: HttpRequest) -> HttpResponse:
    user = User.objects.get(pk=next(turn) % USERS)
    items = list(Item.objects.filter(user=user).order_by("id")[:10])
    total = Item.objects.filter(user=user).count()
    return HttpResponse(template.render({"user": user, "items": items, "total": total}, request))


urlpatterns = [path("", page)]
app = WSGIHandler()
