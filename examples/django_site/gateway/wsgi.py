import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from wsgi_plus.django import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")

# Static files are those of the admin; on a real site another server has them.
application = StaticFilesHandler(get_wsgi_application())
