from django.core.validators import RegexValidator
from django.db import models


class Page(models.Model):
    """A page of the upstream that is served here."""

    name = models.SlugField(unique=True)
    path = models.CharField(
        max_length=200, validators=[RegexValidator(r"^/[!-~]*\Z")], help_text="at the upstream, with the query"
    )
    patience = models.FloatField(default=30, help_text="how long to wait for it, in seconds")
    served = models.PositiveIntegerField(default=0, editable=False)

    def __str__(self) -> str:
        return self.name
