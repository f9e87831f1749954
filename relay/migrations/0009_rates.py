"""Rate limits of channels."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import migrations, models
from django.db.models import Q


def _field(name: str) -> "models.PositiveIntegerField[int | None, int | None]":
    bounds = [MinValueValidator(1), MaxValueValidator(1_000_000_000)]
    return models.PositiveIntegerField(name, null=True, blank=True, validators=bounds)


class Migration(migrations.Migration):
    dependencies = [("relay", "0008_channels")]

    operations = [
        migrations.AddField("channel", "rpm", _field("requests a minute")),
        migrations.AddField("channel", "tpm", _field("tokens a minute")),
        migrations.AddField("channel", "parallel", _field("calls at once")),
        migrations.AddConstraint(
            "channel",
            models.CheckConstraint(
                name="channel_rates_positive",
                condition=(Q(rpm__isnull=True) | Q(rpm__gt=0))
                & (Q(tpm__isnull=True) | Q(tpm__gt=0))
                & (Q(parallel__isnull=True) | Q(parallel__gt=0)),
            ),
        ),
    ]
