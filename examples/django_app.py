"""A Django site in one file, unchanged: a guest book with a form, CSRF protection, a session and a template.

    $(scripts/python) -m venv /tmp/django && /tmp/django/bin/pip install django
    build/fermata --venv /tmp/django --chdir examples django_app:application
    open http://127.0.0.1:8000/ in a browser

What is signed lives in memory, the session in a signed cookie; there is no database. Set SECRET_KEY so that sessions
outlive the server.
"""

from __future__ import annotations

import os
import secrets
from collections import deque

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path

PAGE = """<!DOCTYPE html>
<title>Guest book</title>
<h1>Guest book</h1>
{% for message in messages %}<p><em>{{ message }}</em>{% endfor %}
<form method="post">{% csrf_token %}{{ form }} <button>Sign</button></form>
{% for entry in entries %}<p><b>{{ entry.name }}</b>: {{ entry.text }}{% empty %}<p>Nobody yet.{% endfor %}
"""

settings.configure(
    SECRET_KEY=os.environ.get("SECRET_KEY") or secrets.token_hex(),
    ALLOWED_HOSTS=["localhost", "127.0.0.1", "[::1]"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.messages"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    MESSAGE_STORAGE="django.contrib.messages.storage.session.SessionStorage",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [("django.template.loaders.locmem.Loader", {"page.html": PAGE})],
                "context_processors": ["django.contrib.messages.context_processors.messages"],
            },
        }
    ],
)


class GuestForm(forms.Form):
    name = forms.CharField(max_length=50)
    text = forms.CharField(max_length=200)


entries: deque[dict[str, str]] = deque(maxlen=100)


def guest_book(request: HttpRequest) -> HttpResponse:
    form = GuestForm(request.POST or None, initial={"name": request.session.get("name", "")})
    if request.method == "POST" and form.is_valid():
        entries.appendleft(form.cleaned_data)
        request.session["name"] = form.cleaned_data["name"]
        request.session["signed"] = request.session.get("signed", 0) + 1
        messages.success(request, f"Thank you, {form.cleaned_data['name']}: {request.session['signed']} so far.")
        return redirect("/")
    return render(request, "page.html", {"form": form, "entries": list(entries)})


urlpatterns = [path("", guest_book)]

application = get_wsgi_application()
