from django.db import migrations, models

import relay.models


class Migration(migrations.Migration):
    dependencies = [
        ("relay", "0007_stored_responses"),
    ]

    operations = [
        migrations.CreateModel(
            name="HealthReport",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("process", models.UUIDField()),
                ("key", models.CharField(max_length=32)),
                ("content", models.JSONField(default=dict)),
                ("at", models.DateTimeField(db_index=True)),
            ],
        ),
        migrations.AddField(
            model_name="channel",
            name="auto_disable",
            field=models.BooleanField(
                default=True, help_text="a credential that the provider refuses", verbose_name="disable by itself"
            ),
        ),
        migrations.AddField(
            model_name="channel",
            name="breaker",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text=(
                    "failures in a row, calls, within, open, longest, cool_down (seconds); failures 0 never opens it"
                ),
                verbose_name="breaker",
            ),
        ),
        migrations.AddField(
            model_name="channel",
            name="capabilities",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="offered name: what it accepts, where it differs from its family",
                verbose_name="capabilities",
            ),
        ),
        migrations.AddField(
            model_name="channel",
            name="disabled_at",
            field=models.DateTimeField(editable=False, null=True, verbose_name="disabled since"),
        ),
        migrations.AddField(
            model_name="channel",
            name="disabled_reason",
            field=models.CharField(blank=True, editable=False, max_length=200, verbose_name="disabled because"),
        ),
        migrations.AddField(
            model_name="channel",
            name="headers",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="name: value, null to leave it out; {key} is the credential",
                verbose_name="headers",
            ),
        ),
        migrations.AddField(
            model_name="channel",
            name="parameters",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="put over every body; null takes a field out",
                verbose_name="parameters",
            ),
        ),
        migrations.AddField(
            model_name="channel",
            name="preset",
            field=models.CharField(default="custom", max_length=32, verbose_name="provider"),
        ),
        migrations.AddField(
            model_name="channel",
            name="probed_at",
            field=models.DateTimeField(editable=False, null=True, verbose_name="probed"),
        ),
        migrations.AddField(
            model_name="channel",
            name="proxy",
            field=models.CharField(
                blank=True, help_text="http://host:port; not SOCKS", max_length=300, verbose_name="proxy"
            ),
        ),
        migrations.AddField(
            model_name="channel",
            name="retry_on",
            field=models.JSONField(
                blank=True,
                default=relay.models.retried,
                help_text="kinds of failure",
                verbose_name="try another channel after",
            ),
        ),
        migrations.AddField(
            model_name="credential",
            name="disabled_at",
            field=models.DateTimeField(editable=False, null=True, verbose_name="disabled since"),
        ),
        migrations.AddField(
            model_name="credential",
            name="disabled_reason",
            field=models.CharField(blank=True, editable=False, max_length=200, verbose_name="disabled because"),
        ),
        migrations.AddField(
            model_name="credential",
            name="probed_at",
            field=models.DateTimeField(editable=False, null=True, verbose_name="probed"),
        ),
        migrations.AddField(
            model_name="credential",
            name="weight",
            field=models.PositiveIntegerField(default=1, verbose_name="weight"),
        ),
        migrations.AlterField(
            model_name="channel",
            name="protocol",
            field=models.CharField(
                choices=[
                    ("openai", "OpenAI chat"),
                    ("responses", "OpenAI Responses"),
                    ("anthropic", "Anthropic messages"),
                    ("gemini", "Gemini"),
                ],
                default="openai",
                max_length=16,
                verbose_name="protocol",
            ),
        ),
        migrations.AddConstraint(
            model_name="channel",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("disabled_at__isnull", True), ("disabled_reason", "")),
                    models.Q(("disabled_at__isnull", False), models.Q(("disabled_reason", ""), _negated=True)),
                    _connector="OR",
                ),
                name="channel_disabled_with_a_reason",
            ),
        ),
        migrations.AddConstraint(
            model_name="credential",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("disabled_at__isnull", True), ("disabled_reason", "")),
                    models.Q(("disabled_at__isnull", False), models.Q(("disabled_reason", ""), _negated=True)),
                    _connector="OR",
                ),
                name="credential_disabled_with_a_reason",
            ),
        ),
        migrations.AddConstraint(
            model_name="healthreport",
            constraint=models.UniqueConstraint(fields=("process", "key"), name="health_once_a_process"),
        ),
    ]
