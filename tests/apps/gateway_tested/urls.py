from django.urls import path
from gateway.urls import urlpatterns as sites_own

from . import views

urlpatterns = [
    *sites_own,
    path("api/pages/<slug:name>", views.ApiPage.as_view()),
    path("api/count", views.api_count),
    path("tested/count", views.count),
    path("tested/one", views.one),
    path("tested/ten", views.ten),
    path("tested/within", views.within),
    path("tested/around", views.around),
    path("tested/locked", views.locked),
    path("tested/fails", views.fails),
    path("tested/told", views.errors),
]
