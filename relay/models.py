"""The relay's tables: channels with their credentials, and the record of every call."""

import uuid
from typing import Any

from django.db import models
from django.db.models import CheckConstraint, Q
from django.utils.translation import gettext_lazy as _

from billing.models import Hold
from keys.models import rate_field, rates_positive
from relay.channels import health


class Protocol(models.TextChoices):
    OPENAI = "openai", _("OpenAI chat")
    RESPONSES = "responses", _("OpenAI Responses")
    ANTHROPIC = "anthropic", _("Anthropic messages")
    GEMINI = "gemini", _("Gemini")


class OnHangup(models.TextChoices):
    CANCEL = "cancel", _("cancel the upstream call")
    DRAIN = "drain", _("read the answer to its end, at most 60 s")


def retried() -> list[str]:
    """The kinds of failure after which another channel is tried, where nobody says otherwise."""
    return [kind.value for kind in health.RETRIED]


class Channel(models.Model):
    """An upstream: where it is, which models it serves under which names, and how it is preferred.

    `models` maps the offered name to the upstream's. `costs` has, by offered name, the price card that the provider
    charges us by, as it is written (`billing.prices.parse_card`). A lower `priority` is tried first; `weight` shares
    the calls among channels of one priority. `rpm`, `tpm` and `parallel` are what the provider allows us. Only the
    operator's file may set `private`, which allows a private address.

    `preset` names the provider's row (`relay.channels.presets`). `headers` (null removes one) and `parameters` (a merge
    patch) are put over what is sent. `capabilities` has, by offered name, what the model accepts otherwise than its
    family. `breaker` is a `health.Tolerance` as far as it differs. A channel that its provider refuses without a
    credential, or that loses its last one, is disabled by itself, as a credential is, until it gains one:
    `disabled_at` and `disabled_reason`.
    """

    name = models.CharField(_("name"), max_length=100, unique=True)
    preset = models.CharField(_("provider"), max_length=32, default="custom")
    protocol = models.CharField(_("protocol"), max_length=16, choices=Protocol, default=Protocol.OPENAI)
    base_url = models.CharField(_("base URL"), max_length=500)
    priority = models.IntegerField(_("priority"), default=0, help_text=_("lower first"))
    weight = models.PositiveIntegerField(_("weight"), default=1)
    on_hangup = models.CharField(_("when the client hangs up"), max_length=8, choices=OnHangup, default="cancel")
    timeouts = models.JSONField(
        _("timeouts"), default=dict, blank=True, help_text=_("seconds: connect, first_byte, idle, total")
    )
    rpm = rate_field(_("requests a minute"))
    tpm = rate_field(_("tokens a minute"))
    parallel = rate_field(_("calls at once"))
    private = models.BooleanField(_("may be a private address"), default=False, editable=False)
    enabled = models.BooleanField(_("enabled"), default=True)
    proxy = models.CharField(_("proxy"), max_length=300, blank=True, help_text=_("http://host:port; not SOCKS"))
    headers = models.JSONField(
        _("headers"),
        default=dict,
        blank=True,
        help_text=_("name: value, null to leave it out; {key} is the credential"),
    )
    parameters = models.JSONField(
        _("parameters"), default=dict, blank=True, help_text=_("put over every body; null takes a field out")
    )
    capabilities = models.JSONField(
        _("capabilities"),
        default=dict,
        blank=True,
        help_text=_("offered name: what it accepts, where it differs from its family"),
    )
    retry_on = models.JSONField(
        _("try another channel after"), default=retried, blank=True, help_text=_("kinds of failure")
    )
    breaker = models.JSONField(
        _("breaker"),
        default=dict,
        blank=True,
        help_text=_("failures in a row, calls, within, open, longest, cool_down (seconds); failures 0 never opens it"),
    )
    auto_disable = models.BooleanField(
        _("disable by itself"), default=True, help_text=_("a credential that the provider refuses")
    )
    disabled_at = models.DateTimeField(_("disabled since"), null=True, editable=False)
    disabled_reason = models.CharField(_("disabled because"), max_length=200, blank=True, editable=False)
    probed_at = models.DateTimeField(_("probed"), null=True, editable=False)
    failing_since = models.DateTimeField(_("refused since"), null=True, editable=False)
    costs = models.JSONField(
        _("costs"), default=dict, blank=True, help_text=_("offered name: what the provider charges us, as a price card")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    # Last, because from here on the class body's `models` is this field.
    models = models.JSONField(_("models"), default=dict, help_text=_("offered name: upstream name"))

    class Meta:
        verbose_name = _("channel")
        verbose_name_plural = _("channels")
        constraints = [
            rates_positive("channel_rates_positive"),
            CheckConstraint(
                name="channel_disabled_with_a_reason",
                condition=(Q(disabled_at__isnull=True) & Q(disabled_reason=""))
                | (Q(disabled_at__isnull=False) & ~Q(disabled_reason="")),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Credential(models.Model):
    """An upstream's API key, encrypted (`relay.vault`) and bound to this row by its `uid`. Never shown again.

    `enabled` is the operator's word. `disabled_at` is the gateway's: the provider refused it, for `disabled_reason`,
    and probes or the operator bring it back. `failing_since` is older where probes did so in vain. `weight` shares a
    channel's calls among its credentials.
    """

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="credentials")
    secret = models.BinaryField(editable=False)
    last_four = models.CharField(_("ends with"), max_length=4, blank=True)
    weight = models.PositiveIntegerField(_("weight"), default=1)
    enabled = models.BooleanField(_("enabled"), default=True)
    disabled_at = models.DateTimeField(_("disabled since"), null=True, editable=False)
    disabled_reason = models.CharField(_("disabled because"), max_length=200, blank=True, editable=False)
    probed_at = models.DateTimeField(_("probed"), null=True, editable=False)
    failing_since = models.DateTimeField(_("refused since"), null=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("credential")
        verbose_name_plural = _("credentials")
        constraints = [
            CheckConstraint(
                name="credential_disabled_with_a_reason",
                condition=(Q(disabled_at__isnull=True) & Q(disabled_reason=""))
                | (Q(disabled_at__isnull=False) & ~Q(disabled_reason="")),
            )
        ]

    def __str__(self) -> str:
        return f"…{self.last_four}"


class DefaultModel(models.Model):
    """The model of an endpoint's calls that name none."""

    endpoint = models.CharField(_("endpoint"), max_length=64, primary_key=True)
    model = models.CharField(_("model"), max_length=200)

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.model}"


class CallState(models.TextChoices):
    SETTLED = "settled", _("Settled")
    LEFT = "left", _("Client left")
    FAILED = "failed", _("Failed")
    REFUSED = "refused", _("Refused")
    LOST = "lost", _("Lost")


class Arrival(models.Func):
    """The number of the transaction that writes a row, by PostgreSQL. Nothing on SQLite: see `rollups.arrival`."""

    output_field = models.BigIntegerField()

    def as_sql(self, *args: Any, **options: Any) -> Any:
        return "NULL", []

    def as_postgresql(self, *args: Any, **options: Any) -> Any:
        return "(pg_current_xact_id()::text::bigint)", []


class CallLog(models.Model):
    """The usage record of one call: append-only, written in the transaction that resolves the call's hold.

    `id` is the hold's. `cost` and `held` are nano-units and `cost` equals the charge; `usage` has the buckets of
    `billing.usage`, `lines` the charge's lines. Times are milliseconds from `created_at`.

    `arrival` orders the records by when they became visible, by whole transactions; PostgreSQL fills it in, and on
    SQLite the `rowid` does it (`relay.rollups`). On PostgreSQL this table and that of the attempts are partitioned by
    month (`relay.partitions`).
    """

    id = models.UUIDField(primary_key=True)
    team = models.ForeignKey("portal.Team", models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    key = models.ForeignKey(
        "keys.ApiKey", models.DO_NOTHING, db_constraint=False, db_index=False, null=True, related_name="+"
    )
    request_id = models.CharField(_("request id"), max_length=128)
    endpoint = models.CharField(_("endpoint"), max_length=64)
    protocol = models.CharField(_("protocol"), max_length=16)
    model = models.CharField(_("model"), max_length=200)
    upstream_model = models.CharField(_("upstream model"), max_length=200, blank=True)
    channel = models.CharField(_("channel"), max_length=100, blank=True)
    streamed = models.BooleanField(_("streamed"), default=False)
    state = models.CharField(_("state"), max_length=8, choices=CallState)
    status = models.PositiveSmallIntegerField(_("HTTP status"))
    error = models.CharField(_("error"), max_length=64, blank=True)
    usage = models.JSONField(_("usage"), default=dict)
    usage_source = models.CharField(_("usage source"), max_length=8)
    lines = models.JSONField(_("lines"), default=list)
    cost = models.BigIntegerField(_("cost"), default=0)
    held = models.BigIntegerField(_("held"), default=0)
    price_id = models.BigIntegerField(null=True)
    upstream_id = models.CharField(_("upstream id"), max_length=128, blank=True)
    finish = models.CharField(_("finish reason"), max_length=32, blank=True)
    client_ip = models.CharField(_("client"), max_length=45, blank=True)
    hold_ms = models.FloatField(null=True)
    first_byte_ms = models.FloatField(null=True)
    duration_ms = models.FloatField(default=0)
    created_at = models.DateTimeField(_("time"))
    arrival = models.BigIntegerField(null=True, editable=False, db_default=Arrival())

    class Meta:
        verbose_name = _("call")
        verbose_name_plural = _("calls")
        indexes = [
            models.Index(name="call_team_time", fields=["team", "-created_at"]),
            models.Index(name="call_key_time", fields=["key", "-created_at"]),
            models.Index(name="call_request", fields=["request_id"], opclasses=["varchar_pattern_ops"]),
            models.Index(name="call_arrival", fields=["arrival"], condition=Q(arrival__isnull=False)),
            # For the few that an administrator looks for among everybody's.
            models.Index(name="call_not_settled", fields=["state", "id"], condition=~Q(state=CallState.SETTLED)),
            models.Index(
                name="call_not_reported", fields=["usage_source", "id"], condition=~Q(usage_source="reported")
            ),
        ]
        constraints = [CheckConstraint(name="call_cost_not_negative", condition=Q(cost__gte=0))]

    def __str__(self) -> str:
        return str(self.id)


class Attempt(models.Model):
    """One channel tried for a call. Milliseconds count from the call's `created_at`.

    `usage` has the buckets of `billing.usage`, None where nothing is known. `cost` is what the provider charges us for
    it, in nano-units, None where the channel has no card of costs that says so. Customers never see it.
    """

    call = models.ForeignKey(CallLog, models.DO_NOTHING, db_constraint=False, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    channel = models.CharField(_("channel"), max_length=100)
    credential = models.CharField(_("credential"), max_length=4, blank=True)
    protocol = models.CharField(_("protocol"), max_length=16)
    outcome = models.CharField(_("outcome"), max_length=32)
    status = models.PositiveSmallIntegerField(null=True)
    detail = models.CharField(_("detail"), max_length=200, blank=True)
    usage = models.JSONField(_("usage"), null=True)
    usage_source = models.CharField(_("usage source"), max_length=8, default="none")
    cost = models.BigIntegerField(_("cost to us"), null=True)
    began_ms = models.FloatField()
    first_byte_ms = models.FloatField(null=True)
    ended_ms = models.FloatField()

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        constraints = [
            CheckConstraint(name="attempt_cost_not_negative", condition=Q(cost__isnull=True) | Q(cost__gte=0))
        ]

    def __str__(self) -> str:
        return f"{self.call_id} {self.number}"


class Rollup(models.Model):
    """What the calls that began in one bucket of time came to, by team, key, model, channel and state.

    Buckets are `grain` seconds long (a quarter of an hour, an hour, a day) and begin at `bucket`, in Unix seconds, all
    in UTC. Team 0 is everybody's calls together, without their keys; key 0 stands for calls without a key. `cost` and
    `provider_cost` are nano-units, times milliseconds. A call counts under the channel that it ended on; what its
    attempts cost us under the channel of each, and `uncosted` counts those that used something of which nobody knows
    what it costs us. Written by `relay.rollups` alone; kept when the calls are pruned.
    """

    pk = models.CompositePrimaryKey("team_id", "grain", "bucket", "key_id", "model", "channel", "state")
    team_id = models.BigIntegerField()
    grain = models.IntegerField()
    bucket = models.BigIntegerField()
    key_id = models.BigIntegerField()
    model = models.CharField(max_length=200)
    channel = models.CharField(max_length=100)
    state = models.CharField(max_length=8)
    calls = models.BigIntegerField()
    cost = models.BigIntegerField()
    attempts = models.BigIntegerField()
    provider_cost = models.BigIntegerField()
    uncosted = models.BigIntegerField()
    duration_ms = models.BigIntegerField()
    first_bytes = models.BigIntegerField()
    first_byte_ms = models.BigIntegerField()
    used_input = models.BigIntegerField()
    used_cache_read = models.BigIntegerField()
    used_cache_write = models.BigIntegerField()
    used_cache_write_1h = models.BigIntegerField(db_default=0)
    used_output = models.BigIntegerField()
    used_reasoning = models.BigIntegerField()
    used_audio_in = models.BigIntegerField()
    used_audio_out = models.BigIntegerField()
    used_characters = models.BigIntegerField()
    used_images = models.BigIntegerField()
    used_seconds = models.BigIntegerField()
    used_searches = models.BigIntegerField(db_default=0)
    used_calls = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(name="rollup_grain_bucket", fields=["grain", "bucket"])]
        constraints = [
            CheckConstraint(name="rollup_grain_known", condition=Q(grain__in=(900, 3600, 86400))),
            CheckConstraint(name="rollup_counts_not_negative", condition=Q(calls__gte=0, cost__gte=0, attempts__gte=0)),
        ]

    def __str__(self) -> str:
        return f"team {self.team_id}, {self.grain} s from {self.bucket}"


class RollupCursor(models.Model):
    """How far the roll-ups have come; one row.

    Calls whose `arrival` is below `horizon` are in them, the others are not. `pruned` is the moment, in Unix seconds,
    before which calls may have been pruned; `closed` the end of the last hour that was audited when it had ended, and
    `checked` how far the audit of all hours has come in its round.
    """

    name = models.CharField(max_length=16, primary_key=True)
    horizon = models.BigIntegerField(default=1)
    pruned = models.BigIntegerField(default=0)
    closed = models.BigIntegerField(default=0)
    checked = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name} up to {self.horizon}"


class Review(Hold):
    """A call whose process died after it was sent and before an answer was seen: an administrator decides."""

    class Meta:
        proxy = True
        verbose_name = _("call in review")
        verbose_name_plural = _("calls in review")


class StoredAnswer(models.Model):
    """What a call with an idempotency key was answered, encrypted (`relay.idempotency`). Kept as long as its key.

    Written in the transaction of the call's settlement, so that whoever saw the answer whole finds it again.
    """

    hold_id = models.UUIDField(primary_key=True)
    sealed = models.TextField(editable=False)
    created_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return str(self.hold_id)


class StoredResponse(models.Model):
    """A response of a team that later calls can go on from, encrypted (`relay.stored_responses`).

    `id` is in the response's own id. `previous` is the response that it goes on from; there is no constraint, because
    any of a conversation may be deleted. Written in the transaction of the call's settlement.
    """

    id = models.UUIDField(primary_key=True)
    team = models.ForeignKey("portal.Team", models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    key = models.ForeignKey(
        "keys.ApiKey", models.DO_NOTHING, db_constraint=False, db_index=False, null=True, related_name="+"
    )
    model = models.CharField(max_length=200)
    previous = models.UUIDField(null=True, db_index=True)
    sealed = models.TextField(editable=False)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return str(self.id)


class StoredItem(models.Model):
    """An item of a stored response that has its provider's own id, by which a later call may refer to it.

    The ids of items that the gateway made tell their response themselves and have no row here.
    """

    response = models.ForeignKey(StoredResponse, models.CASCADE, db_constraint=False, related_name="items")
    team = models.ForeignKey("portal.Team", models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    name = models.CharField(max_length=200)

    class Meta:
        indexes = [models.Index(name="stored_item_name", fields=["team", "name"])]

    def __str__(self) -> str:
        return self.name


class Calibration(models.Model):
    """What the reports of an upstream model have taught about its tokens (`relay.counting.calibration.Envelope`).

    One row for a model, a side (input, output), a kind of script and an epoch of 30 days.
    """

    model = models.CharField(max_length=200)
    side = models.CharField(max_length=8)
    wide = models.BooleanField()
    epoch = models.IntegerField()
    samples = models.BigIntegerField(default=0)
    longest = models.BigIntegerField(default=0)
    heights = models.JSONField(default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="calibration_once_an_epoch", fields=["model", "side", "wide", "epoch"]),
            CheckConstraint(name="calibration_side_known", condition=Q(side__in=("input", "output"))),
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.side} {self.epoch}"


class HealthReport(models.Model):
    """What one server process saw of one credential in the last minutes (`relay.channels.health.Report`).

    `key` names the credential, or the channel that has none. Each process writes its own rows, and only shows them:
    nothing is decided by what stands here.
    """

    process = models.UUIDField()
    key = models.CharField(max_length=32)
    content = models.JSONField(default=dict)
    at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(name="health_once_a_process", fields=["process", "key"])]

    def __str__(self) -> str:
        return f"{self.key} {self.process}"


class Heartbeat(models.Model):
    """When a background job last ran, on any machine: how `manage.py doctor` knows that there is a worker."""

    name = models.CharField(max_length=32, primary_key=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} {self.at:%Y-%m-%d %H:%M:%S}"


# Tables that have files of their own.
from relay import statement_models  # noqa: E402, F401
