"""Channels as operators meet them: the file, the doctor, the administration's form and its page of health."""

import asyncio
import datetime as dt
import uuid
from typing import Any

import msgspec
import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation

from billing import revisions
from portal import doctor
from portal.configuration import merge, reader, writer
from portal.configuration.nodes import InvalidFile
from portal.models import User
from relay import probing, services, snapshot, standing, tasks
from relay.channels import health, routing
from relay.channels.health import Kind, Registry
from relay.models import Channel, Credential, HealthReport, retried
from relay.services import ChannelSpec
from tests.kit import scripts
from tests.kit.upstream import Exchange, Upstream

SECRETS = {"sk-one-aaaaaaaaaaaa1111": 1, "sk-two-bbbbbbbbbbbb2222": 3}


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root@example.com", "x"))
    return client


def channel(url: str = "https://8.8.8.8/v1", **fields: Any) -> Channel:
    secrets = fields.pop("secrets", SECRETS)
    spec = ChannelSpec(**{"name": "main", "base_url": url, "models": {"a": "b"}, **fields})
    return services.save_channel(None, spec, secrets=secrets)


def apply(text: str) -> merge.Outcome:
    return merge.apply(reader.read(text), actor="tests")


# ---- the file -------------------------------------------------------------------------------------------------------

FILE = """
channels:
  - name: fast
    preset: groq
    api_keys: [{key: env:FAST_ONE, weight: 3}, env:FAST_TWO]
    models: {a: llama}
    headers: {X-Team: blue, User-Agent: null}
    parameters: {temperature: 0.5, top_k: 3, user: null, provider: {order: [a, "1"], allow: true}}
    capabilities: {a: {thinking: effort, efforts: [low, high], input: [text]}}
    retry_on: [connect, limited]
    breaker: {failures: 3, open: 10}
    auto_disable: false
    proxy: https://9.9.9.9:3128
"""


@pytest.fixture
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAST_ONE", "sk-fast-one-1234567890")
    monkeypatch.setenv("FAST_TWO", "sk-fast-two-1234567891")


@pytest.mark.usefixtures("db", "_keys")
def test_all_of_a_channel_comes_from_the_file_and_is_in_force() -> None:
    apply(FILE)
    row = Channel.objects.get()
    assert (row.preset, row.protocol, row.base_url) == ("groq", "openai", "https://api.groq.com/openai/v1")
    assert row.headers == {"X-Team": "blue", "User-Agent": None}
    assert row.parameters == {
        "temperature": 0.5, "top_k": 3, "user": None, "provider": {"order": ["a", "1"], "allow": True},
    }  # fmt: skip
    (candidate,) = snapshot.load().routes["a"]
    assert {secret.value: secret.weight for secret in candidate.credentials} == {
        "sk-fast-one-1234567890": 3, "sk-fast-two-1234567891": 1,
    }  # fmt: skip
    assert (candidate.caps.thinking, candidate.caps.efforts) == ("effort", ("low", "high"))
    assert (candidate.tolerance.failures, candidate.tolerance.open, candidate.tolerance.longest) == (3, 10, 300)
    assert candidate.retry_on == {"connect", "limited"}
    assert (candidate.auto_disable, candidate.dress.proxy) == (False, "https://9.9.9.9:3128")


@pytest.mark.usefixtures("db", "_keys")
def test_what_was_dumped_changes_nothing_when_it_is_applied() -> None:
    apply(FILE)
    dumped = writer.dump()
    assert "sk-fast" not in dumped
    assert apply(dumped).changes == []
    assert apply(FILE).changes == []


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    "fields",
    [
        {"secrets": {"sk-first-aaaaaa-1234": 1, "sk-second-bbbbb-1234": 5, "sk-third-cccccc-1234": 5}},
        {"secrets": {"short-1": 1, "short-2": 5}},
        {"breaker": {"open": 1e-05, "within": 0.12345678}, "timeouts": {"connect": 0.0012345678}},
        {"parameters": {"label": "1e5", "word": "nULL", "no": "-7", "x": 1e300, "y": 2**63, "z": [1e-7, "", None]}},
    ],
    ids=["alike at the end", "too short to show", "exact seconds", "texts like numbers"],
)
def test_a_dump_is_exact(fields: dict[str, Any]) -> None:
    channel(**fields)
    assert apply(writer.dump()).changes == []


@pytest.mark.usefixtures("db")
def test_a_mark_means_all_credentials_that_end_so_or_each_of_them_in_turn() -> None:
    channel(secrets={"sk-first-aaaaaa-1234": 1, "sk-second-bbbbb-1234": 5})
    file = "channels: [{{name: main, api_keys: [{}]}}]"
    mark = '"stored:…1234"'
    heavier = f"{{key: {mark}, weight: 7}}"
    apply(file.format(f"{mark}, {heavier}"))
    assert list(Credential.objects.order_by("pk").values_list("weight", flat=True)) == [1, 7]
    with pytest.raises(InvalidFile, match="2 credentials that end with …1234 are stored, not 3"):
        apply(file.format(f"{mark}, {mark}, {mark}"))
    apply(file.format(heavier))
    assert list(Credential.objects.values_list("weight", flat=True)) == [7, 7]


@pytest.mark.usefixtures("db", "_keys")
def test_a_change_is_told_without_the_value_of_a_header() -> None:
    apply(FILE)
    changed = FILE.replace("X-Team: blue, User-Agent: null", "X-Team: secret-value").replace("weight: 3", "weight: 5")
    lines = "\n".join(apply(changed.replace("temperature: 0.5", "temperature: 1")).changes)
    assert "secret-value" not in lines
    for told in ("headers User-Agent no longer", "headers X-Team changed", "parameters temperature changed"):
        assert told in lines
    assert "weight 3 → 5" in lines


WRONG = {
    "preset: bedrock": "SigV4",
    "preset: nobody": "unknown; known are custom",
    "preset: groq\n    protocol: gemini": "Groq speaks openai",
    "preset: azure": "begins with http",
    "preset: openai\n    proxy: socks5://9.9.9.9:1080": "SOCKS is not supported",
    "preset: openai\n    proxy: http://me:secret@9.9.9.9": "password",
    "preset: openai\n    headers: {Host: x}": "cannot be set",
    "preset: openai\n    headers: {X-A: é}": "printable ASCII",
    "preset: openai\n    parameters: {max_tokens: 5}": "cannot be overridden",
    "preset: openai\n    parameters: {a: {n: 5}}": "cannot be overridden",
    "preset: gemini\n    parameters: {generationConfig: null}": "cannot be overridden",
    "preset: openai\n    capabilities: {a: {thinkng: none}}": "thinkng",
    "preset: openai\n    capabilities: {z: {thinking: none}}": "does not serve",
    "preset: openai\n    retry_on: [sometimes]": "kinds of failure are connect",
    "preset: openai\n    breaker: {failure: 5}": "failure",
    "preset: openai\n    breaker: {failures: 5000}": "too small or too large",
    "preset: openai\n    api_keys: [{weight: 3}]": "has `key` and `weight`",
    'preset: openai\n    proxy: "http://[::1:3"': "not a URL",
    f"preset: openai\n    proxy: http://{'a.' * 180}com:3128": "at most 300 characters",
    'preset: openai\n    parameters: {a: "x\\0y"}': "are no text",
    'preset: openai\n    parameters: {a: "\\uD800"}': "are no text",
    "preset: openai\n    parameters: {a: 1e999}": "at most 64 bits",
    f"preset: openai\n    parameters: {{a: {'9' * 5000}}}": "at most 64 bits",
    f"preset: openai\n    parameters: {'{a: ' * 40}1{'}' * 40}": "at most 32 levels",
    f"preset: openai\n    parameters: {'{a: ' * 3000}1{'}' * 3000}": "nested too deeply",
    "preset: openai\n    parameters: &p {a: *p}": "contains itself",
}


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("written", WRONG)
def test_what_cannot_be_is_refused_with_its_reason(written: str) -> None:
    with pytest.raises(InvalidFile, match=WRONG[written]):
        apply(f"channels:\n  - name: x\n    {written}\n    models: [a]\n")
    assert not Channel.objects.exists()


@pytest.mark.usefixtures("db")
def test_a_proxy_that_hears_the_credential_wants_it_again() -> None:
    row = channel("http://8.8.8.8/v1")
    services.save_channel(row, msgspec.structs.replace(services.spec_of(row), proxy="http://9.9.9.9:3128"))
    assert not row.credentials.exists()
    other = channel(name="other")
    services.save_channel(other, msgspec.structs.replace(services.spec_of(other), proxy="http://9.9.9.9:3128"))
    assert other.credentials.count() == 2
    with pytest.raises(ValidationError, match="private"):
        services.save_channel(other, msgspec.structs.replace(services.spec_of(other), proxy="http://127.0.0.1:3128"))


# ---- disabled by themselves -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("db")
def test_disabling_is_done_once_is_in_force_and_says_why() -> None:
    row = channel()
    one = row.credentials.order_by("pk")[0]
    before = revisions.current()[revisions.CHANNELS]
    assert services.disable(one, reason="401: no")
    assert not services.disable(one, reason="something else")
    assert revisions.current()[revisions.CHANNELS] == before + 1
    one.refresh_from_db()
    assert one.disabled_reason == "401: no"
    assert [s.last_four for s in snapshot.load().routes["a"][0].credentials] == ["2222"]
    assert services.enable(one)
    assert not services.enable(one)
    with pytest.raises(IntegrityError), transaction.atomic():
        Credential.objects.update(disabled_at=timezone.now())


@pytest.mark.usefixtures("db")
def test_a_channel_that_loses_its_last_credential_is_disabled_until_the_file_gives_it_another() -> None:
    row = channel()
    one, two = row.credentials.all()
    services.remove_credential(one)
    row.refresh_from_db()
    assert row.disabled_at is None
    services.remove_credential(two)
    row.refresh_from_db()
    assert row.disabled_reason == "its last credential was removed"
    (candidate,) = snapshot.load().routes["a"]
    assert routing.targets(candidate) == []
    apply("channels: [{name: main, api_keys: [sk-three-cccccccccc3333]}]")
    row.refresh_from_db()
    assert (row.disabled_at, row.disabled_reason) == (None, "")
    (candidate,) = snapshot.load().routes["a"]
    assert [target.key for target in routing.targets(candidate)] == [routing.credential_key(row.credentials.get().pk)]


@pytest.mark.usefixtures("db")
def test_a_channel_of_which_the_file_says_that_it_has_no_credentials_is_called_without() -> None:
    channel()
    apply("channels: [{name: main, api_keys: []}]")
    (candidate,) = snapshot.load().routes["a"]
    assert [target.secret for target in routing.targets(candidate)] == [None]


@pytest.mark.usefixtures("db")
def test_the_doctor_names_what_a_provider_refuses() -> None:
    row = channel(secrets=list(SECRETS)[:1])
    services.disable(row.credentials.get(), reason="401: bad key")
    found = [str(finding) for finding in doctor.examine()]
    assert any("refuses the credential …1111 of channel main" in line and "401: bad key" in line for line in found)
    assert any("channel main has no credential in use" in line for line in found)


@pytest.mark.usefixtures("db")
def test_a_probe_comes_after_a_minute_then_ever_later_and_only_where_a_provider_can_tell() -> None:
    row, azure = channel(), channel("https://8.8.8.8/openai/v1", name="azure", preset="azure")
    for found in (row, azure):
        services.disable(found.credentials.order_by("pk")[0], reason="401")
    now = timezone.now()
    one = row.credentials.order_by("pk")[0]

    def due(minutes: float) -> bool:
        return bool(probing.due(now + dt.timedelta(minutes=minutes)))

    assert [due(0.5), due(1.1)] == [False, True]
    for last, early, late in ((1, 1.9, 2.1), (8, 15, 17), (300, 329, 331)):
        Credential.objects.filter(pk=one.pk).update(probed_at=now + dt.timedelta(minutes=last))
        assert [due(early), due(late)] == [False, True]
    one.refresh_from_db()
    twin = Credential.objects.get(pk=one.pk)
    assert services.claim_probe(one)
    assert not services.claim_probe(twin)


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(("refused_after", "waits"), [(1, 21), (29, 30), (31, 1)])
def test_what_is_refused_soon_after_a_probe_had_enabled_it_waits_as_if_it_had_never_been(
    refused_after: int, waits: int
) -> None:
    one = channel(secrets=list(SECRETS)[:1]).credentials.get()
    services.disable(one, reason="401")
    services.enable(one, by_probe=True)
    probed = timezone.now() - dt.timedelta(minutes=refused_after)
    Credential.objects.update(probed_at=probed, failing_since=probed - dt.timedelta(minutes=20))
    services.disable(one, reason="401")
    one.refresh_from_db()
    assert one.disabled_at is not None
    early, late = (one.disabled_at + dt.timedelta(minutes=waits, seconds=second) for second in (-5, 5))
    assert [bool(probing.due(early)), bool(probing.due(late))] == [False, True]


@pytest.mark.usefixtures("db")
def test_what_the_operator_enables_begins_anew() -> None:
    one = channel(secrets=list(SECRETS)[:1]).credentials.get()
    services.disable(one, reason="401")
    Credential.objects.update(failing_since=timezone.now() - dt.timedelta(days=1))
    services.enable(one)
    services.disable(one, reason="401")
    one.refresh_from_db()
    assert one.failing_since == one.disabled_at


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(("status", "verdict"), [(200, probing.Verdict.TAKEN), (401, probing.Verdict.REFUSED)])
def test_openrouter_is_asked_for_the_key_itself_for_its_list_of_models_is_public(
    status: int, verdict: probing.Verdict
) -> None:
    async def openrouter(exchange: Exchange) -> None:
        public = exchange.target == "/v1/models"
        await exchange.answer(200 if public else status, b'{"data": {"label": "sk-or-v1-...1111", "limit": null}}')

    provider = Upstream(openrouter).start()
    try:
        row = channel(provider.url, private=True, preset="openrouter", secrets=list(SECRETS)[:1])
        services.disable(row.credentials.get(), reason="401")
        found = probing.probe(row.credentials.get())
    finally:
        provider.stop()
    assert (found.verdict, found.models) == (verdict, ())
    assert (row.credentials.get().disabled_at is None) is (verdict is probing.Verdict.TAKEN)
    assert {exchange.target for exchange in provider.exchanges} == {"/v1/key"}


ANSWERS = {
    "taken": (scripts.body(b'{"data": [{"id": "a"}, {"id": "b"}]}'), probing.Verdict.TAKEN, ("a", "b")),
    "Gemini's": (scripts.body(b'{"models": [{"name": "models/a"}]}'), probing.Verdict.TAKEN, ("a",)),
    "refused": (scripts.error(401), probing.Verdict.REFUSED, ()),
    "Gemini's refusal": (
        scripts.body(b'{"error": {"details": [{"reason": "API_KEY_INVALID"}]}}', status=400),
        probing.Verdict.REFUSED,
        (),
    ),
    "no list": (scripts.error(404), probing.Verdict.UNKNOWN, ()),
    "nobody": (scripts.hang_up, probing.Verdict.UNKNOWN, ()),
}


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_probe_tells_what_the_provider_says_and_enables_only_what_is_taken(answer: str) -> None:
    script, verdict, models = ANSWERS[answer]

    async def by_method(exchange: Exchange) -> None:
        assert exchange.headers["authorization"] == "Bearer sk-one-aaaaaaaaaaaa1111"
        await script(exchange)

    provider = Upstream(by_method).start()
    try:
        row = channel(provider.url, private=True, secrets=list(SECRETS)[:1])
        services.disable(row.credentials.get(), reason="401")
        found = probing.probe(row.credentials.get())
    finally:
        provider.stop()
    assert (found.verdict, found.models) == (verdict, models)
    assert (row.credentials.get().disabled_at is None) is (verdict is probing.Verdict.TAKEN)
    assert {exchange.target for exchange in provider.exchanges} == {"/v1/models"}


@pytest.mark.usefixtures("db")
def test_old_reports_are_forgotten() -> None:
    for minutes in (0, 19, 21):
        HealthReport.objects.create(process=uuid.uuid4(), key="k1", at=timezone.now() - dt.timedelta(minutes=minutes))
    tasks.probe_channels()
    assert HealthReport.objects.count() == 2


def test_a_refusal_without_a_credential_says_nothing_of_a_channel_that_has_one_by_now(transactional_db: None) -> None:
    row = channel(secrets=())
    targets = routing.targets(snapshot.candidate_of(row))
    services.add_credentials(row, SECRETS)
    asyncio.run(_refuse(targets))
    assert not Channel.objects.exclude(disabled_at=None).exists()


# ---- the page -------------------------------------------------------------------------------------------------------


def report(key: str, *, failures: int, calls: int) -> None:
    """What a process that saw this stores."""
    registry = Registry()
    for number in range(calls):
        passage = registry.enter(key, anyway=True)
        assert passage is not None
        passage.sent()
        if number < failures:
            passage.failed(Kind.SERVER, "status 500: <b>ouch</b>")
        else:
            passage.began()
            passage.succeeded()
    standing._store(uuid.uuid4(), registry.take_changes())


def test_the_health_page_adds_up_all_processes_and_shows_each_credential(staff: Client) -> None:
    row = channel()
    one, two = row.credentials.order_by("pk")
    report(routing.credential_key(one.pk), failures=5, calls=5)
    report(routing.credential_key(one.pk), failures=0, calls=15)
    services.disable(two, reason="401: <script>")
    page = staff.get(reverse("admin:relay_channel_health")).content.decode()
    for told in (
        "20 calls · 25.0 % failed · first byte",
        "shut",
        "server error: 5",
        "401: &lt;script&gt;",
        "&lt;b&gt;",
    ):
        assert told in page, told
    assert page.count("Probe now") == 2
    assert page.count(">Enable<") == 1
    assert "sk-" not in page
    with translation.override("en"):  # which the request leaves changed for this thread
        chinese = staff.get(reverse("admin:relay_channel_health"), headers={"accept-language": "zh-hans"})
    assert "20 次调用" in chinese.content.decode()


def test_the_health_page_shows_that_a_channel_itself_is_disabled_though_it_has_credentials(staff: Client) -> None:
    services.disable(channel(), reason="401: who are you?")
    page = staff.get(reverse("admin:relay_channel_health")).content.decode()
    assert "401: who are you?" in page
    assert (page.count(">Enable<"), page.count("Probe now")) == (1, 3)


def test_the_buttons_enable_and_probe_and_leave_a_trace(staff: Client) -> None:
    provider = Upstream(scripts.default).start()
    try:
        row = channel(provider.url, private=True)
        one, two = row.credentials.order_by("pk")
        for credential, verb in ((one, "enable"), (two, "probe")):
            services.disable(credential, reason="401")
            url = reverse("admin:relay_channel_mend", args=["credential", credential.pk, verb])
            assert staff.get(url).status_code == 405
            assert staff.post(url).status_code == 302
            credential.refresh_from_db()
            assert credential.disabled_at is None
    finally:
        provider.stop()
    assert len(provider.exchanges) == 1
    history = staff.get(reverse("admin:relay_channel_history", args=[row.pk])).content.decode()
    assert "enable credential …1111" in history


def test_who_may_not_change_channels_may_not_mend_them(alice: User) -> None:
    row = channel()
    client = Client()
    alice.is_staff = True
    alice.save()
    client.force_login(alice)
    assert client.get(reverse("admin:relay_channel_health")).status_code == 403
    url = reverse("admin:relay_channel_mend", args=["channel", row.pk, "enable"])
    assert client.post(url).status_code == 403


def test_what_waits_to_be_disabled_is_written_and_what_the_operator_forbade_is_not(
    transactional_db: None,
) -> None:
    kept, row = channel(name="kept", auto_disable=False), channel()
    asyncio.run(_refuse([*routing.targets(snapshot.candidate_of(row)), *routing.targets(snapshot.candidate_of(kept))]))
    assert set(Credential.objects.values_list("channel__name", "disabled_reason")) == {
        ("main", "401: no"),
        ("kept", ""),
    }


def test_what_cannot_be_written_keeps_nothing_else_from_being_disabled_or_reported(
    books: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a character is text for no database."""
    monkeypatch.setattr(health, "registry", Registry())
    first, second = channel(name="first").credentials.order_by("pk")
    for name in ("\ud800", "credential:whole"):
        passage = health.registry.enter(name)
        assert passage is not None
        passage.failed(Kind.SERVER, "no")
    (target, other) = routing.targets(snapshot.candidate_of(first.channel))
    asyncio.run(_refuse([target], "401: \ud800"))
    asyncio.run(_refuse([other]))
    assert set(Credential.objects.values_list("pk", "disabled_reason")) == {(first.pk, ""), (second.pk, "401: no")}
    assert set(HealthReport.objects.values_list("key", flat=True)) == {"credential:whole"}


async def _refuse(targets: list[routing.Target], reason: str = "401: no") -> None:
    for target in targets:
        standing.refused(target, reason)
    await standing.flush(at_once=True)


@pytest.mark.usefixtures("db")
def test_the_usual_kinds_are_tried_again_everywhere() -> None:
    assert channel().retry_on == retried() == [kind.value for kind in health.RETRIED]
