import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Page",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.SlugField(unique=True)),
                (
                    "path",
                    models.CharField(
                        help_text="at the upstream, with the query",
                        max_length=200,
                        validators=[django.core.validators.RegexValidator(r"^/[!-~]*\Z")],
                    ),
                ),
                ("patience", models.FloatField(default=30, help_text="how long to wait for it, in seconds")),
                ("served", models.PositiveIntegerField(default=0, editable=False)),
            ],
        ),
    ]
