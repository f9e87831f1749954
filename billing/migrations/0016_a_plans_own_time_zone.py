"""The time zone by whose calendar a plan is filled. Plans from before go on in the one that their team has now."""

from typing import Any

from django.db import migrations, models
from django.db.models import OuterRef, Subquery


def keep(apps: Any, schema_editor: Any) -> None:
    teams = apps.get_model("portal", "Team").objects.filter(pk=OuterRef("team_id"))
    apps.get_model("billing", "Plan").objects.update(zone=Subquery(teams.values("time_zone")))


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0015_open_holds_by_their_end"),
        ("portal", "0002_rates"),
    ]

    operations = [
        migrations.AddField(
            model_name="plan",
            name="zone",
            field=models.CharField(db_default="UTC", default="UTC", max_length=64, verbose_name="time zone"),
        ),
        migrations.RunPython(keep, migrations.RunPython.noop),
    ]
