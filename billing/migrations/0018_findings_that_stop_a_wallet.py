"""Whether a finding is one that stops its account. Of findings from before it is known where they did."""

from typing import Any

from django.db import migrations, models
from django.db.models import F


def keep(apps: Any, schema_editor: Any) -> None:
    apps.get_model("billing", "AuditFinding").objects.update(freezes=F("froze"))


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0017_calls_that_a_plan_carries"),
    ]

    operations = [
        migrations.AddField(
            model_name="auditfinding",
            name="freezes",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.RunPython(keep, migrations.RunPython.noop),
    ]
