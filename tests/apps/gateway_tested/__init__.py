"""examples/django_site with REST framework, Sentry's SDK, and views that do to the database what sites do to theirs."""
