"""The operator's file: merged by name, the same twice changes nothing, what is wrong is said and nothing is written."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from billing import catalog, revisions
from billing.models import CatalogModel, PriceVersion
from relay import services, snapshot
from relay.models import Channel, Credential, DefaultModel

pytestmark = pytest.mark.django_db

SECRET = "sk-from-the-environment-wxyz"
WHOLE = """
channels:
  - name: main
    protocol: openai
    base_url: http://127.0.0.1:9001/v1
    api_keys: [env:MAIN_KEY]
    priority: 0
    weight: 1
    on_hangup: cancel
    timeouts: {connect: 5, first_byte: 120, idle: 2.5, total: 1800}
    models: {gpt-4o-mini: gpt-4o-mini, "[M]claude": claude-sonnet-4}
models:
  - name: gpt-4o-mini
    kind: chat
    price: {input: 0.15, cache_read: "0.075", output: 0.60}
    context_window: 128000
  - name: "[M]claude"
    price: {per_call: 0.01}
  - name: gpt-image-1
    kind: image
    price: {per_image: "0.04"}
defaults: {chat.completions: gpt-4o-mini, images.generations: gpt-image-1}
"""


class Operator:
    """Writes a file, applies it, and keeps what was printed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pisces.yaml"
        self.notes = ""

    def apply(self, text: str, *arguments: str) -> list[str]:
        self.path.write_text(text, encoding="utf-8")
        out, err = StringIO(), StringIO()
        call_command("apply", str(self.path), *arguments, stdout=out, stderr=err)
        self.notes = err.getvalue()
        return out.getvalue().splitlines()

    def refused(self, text: str, *arguments: str) -> str:
        with pytest.raises(CommandError) as caught:
            self.apply(text, *arguments)
        return str(caught.value)

    def dump(self) -> str:
        out = StringIO()
        call_command("dump", stdout=out)
        return out.getvalue()


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setenv("MAIN_KEY", SECRET)
    return Operator(tmp_path)


def _rows() -> tuple[Any, ...]:
    return (
        list(Channel.objects.values()), list(Credential.objects.values()), list(CatalogModel.objects.values()),
        list(PriceVersion.objects.values()), list(DefaultModel.objects.values()), revisions.current(),
    )  # fmt: skip


def test_a_file_makes_channels_models_and_exact_prices(operator: Operator) -> None:
    lines = operator.apply(WHOLE)
    assert "+ channel main: openai at http://127.0.0.1:9001/v1" in lines
    assert "+ channel main: credential …wxyz added" in lines
    assert "~ model gpt-4o-mini: price input 0.15, cache_read 0.075, output 0.6" in lines
    channel = Channel.objects.get()
    assert channel.private
    assert channel.models == {"gpt-4o-mini": "gpt-4o-mini", "[M]claude": "claude-sonnet-4"}
    assert channel.timeouts == {"connect": 5, "first_byte": 120, "idle": 2.5, "total": 1800}
    assert services.opened(channel.credentials.get()) == SECRET
    assert SECRET.encode() not in bytes(channel.credentials.get().secret)
    assert PriceVersion.objects.get(model__name="gpt-4o-mini").rates == {
        "input": 150_000_000, "cache_read": 75_000_000, "output": 600_000_000,
    }  # fmt: skip
    assert PriceVersion.objects.get(model__name="[M]claude").rates == {"calls": 10_000_000 * 1_000_000}
    assert dict(DefaultModel.objects.values_list("endpoint", "model"))["chat.completions"] == "gpt-4o-mini"
    assert "images.generations is kept; the endpoint is not available yet" in operator.notes
    assert SECRET not in "".join(lines) + operator.notes


def test_the_relay_offers_what_was_applied(operator: Operator) -> None:
    operator.apply(WHOLE)
    view = snapshot.load()
    assert view.routes["[M]claude"][0].model == "claude-sonnet-4"
    assert view.routes["gpt-4o-mini"][0].credentials[0].value == SECRET


def test_the_same_file_twice_changes_nothing(operator: Operator) -> None:
    operator.apply(WHOLE)
    before = _rows()
    assert operator.apply(WHOLE) == ["nothing to change"]
    assert _rows() == before


def test_what_was_dumped_is_what_is_there_and_holds_no_secret(operator: Operator) -> None:
    operator.apply(WHOLE)
    dumped = operator.dump()
    assert SECRET not in dumped
    assert yaml.safe_load(dumped)["channels"][0]["api_keys"] == ["stored:…wxyz"]
    assert yaml.safe_load(dumped)["models"][1]["price"] == {"input": "0.15", "cache_read": "0.075", "output": "0.6"}
    before = _rows()
    assert operator.apply(dumped, "--prune") == ["nothing to change"]
    assert _rows() == before
    assert operator.dump() == dumped


def test_rate_limits_are_set_kept_and_taken_away_by_the_file(operator: Operator) -> None:
    operator.apply(WHOLE)
    lines = operator.apply("channels: [{name: main, rpm: 500, tpm: 200000, parallel: 20}]")
    assert lines == [
        "~ channel main: rpm none → 500", "~ channel main: tpm none → 200000", "~ channel main: parallel none → 20",
    ]  # fmt: skip
    assert yaml.safe_load(operator.dump())["channels"][0]["tpm"] == 200_000
    assert operator.apply(operator.dump(), "--prune") == ["nothing to change"]
    assert operator.apply("channels: [{name: main, tpm: 0}]") == ["~ channel main: tpm 200000 → none"]
    assert Channel.objects.values_list("rpm", "tpm", "parallel").get() == (500, None, 20)
    assert operator.apply("channels: [{name: main, tpm: 0}]") == ["nothing to change"]
    assert "tpm" not in yaml.safe_load(operator.dump())["channels"][0]
    said = operator.refused("channels: [{name: main, rpm: -1, tpm: 1e3, parallel: many}]")
    assert "channels[0].rpm: a limit is a whole number above zero, or 0 for none" in said
    assert "'1e3' is not a whole number" in said
    assert "'many' is not a whole number" in said


def test_what_is_switched_off_or_still_to_come_survives_a_dump(operator: Operator) -> None:
    operator.apply(WHOLE)
    operator.apply(
        "models: [{name: later, price: {input: 1}, valid_from: 2099-01-01}, {name: gpt-image-1, active: no}]"
    )
    services.set_credential(Credential.objects.get(), enabled=False, weight=1)
    services.set_enabled(Channel.objects.get(), enabled=False)
    before = _rows()
    assert operator.apply(operator.dump(), "--prune") == ["nothing to change"]
    assert _rows() == before


def test_each_difference_is_one_line(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    operator.apply(WHOLE)
    monkeypatch.setenv("MAIN_KEY", "sk-the-key-was-rotated-9999")
    changed = (
        WHOLE.replace("weight: 1", "weight: 2").replace('"[M]claude": claude-sonnet-4', "new: other")
        .replace("input: 0.15", "input: 0.2").replace("context_window: 128000", "context_window: 64000")
    )  # fmt: skip
    assert operator.apply(changed) == [
        "~ model gpt-4o-mini: context_window 128000 → 64000",
        "~ model gpt-4o-mini: price input 0.15, cache_read 0.075, output 0.6 → input 0.2, cache_read 0.075, output 0.6",
        "~ channel main: serves [M]claude no longer",
        "~ channel main: serves new as other",
        "~ channel main: weight 1 → 2",
        "~ channel main: credential …9999 added",
        "~ channel main: credential …wxyz removed",
    ]
    assert [services.opened(c) for c in Credential.objects.all()] == ["sk-the-key-was-rotated-9999"]
    assert "channel main serves new, which is not among the models" in operator.notes


def test_what_the_file_does_not_say_stays(operator: Operator) -> None:
    operator.apply(WHOLE)
    assert operator.apply("channels: [{name: main, weight: 5}]") == ["~ channel main: weight 1 → 5"]
    channel = Channel.objects.get()
    assert (channel.weight, channel.credentials.count(), len(channel.models)) == (5, 1, 2)


def test_a_dry_run_says_the_same_and_writes_nothing(operator: Operator) -> None:
    before = _rows()
    lines = operator.apply(WHOLE, "--dry-run")
    assert "dry run: nothing was written" in operator.notes
    assert _rows() == before
    assert operator.apply(WHOLE) == lines


def test_pruning_takes_out_of_use_and_deletes_nothing(operator: Operator) -> None:
    operator.apply(WHOLE)
    kept = "channels: []\nmodels: [{name: gpt-4o-mini}]\ndefaults: {chat.completions: gpt-4o-mini}"
    assert operator.apply(kept) == ["nothing to change"]
    assert operator.apply(kept, "--prune") == [
        "- channel main: disabled",
        "- model [M]claude: no longer offered",
        "- model gpt-image-1: no longer offered",
        "- default images.generations",
    ]
    assert Channel.objects.filter(enabled=False).count() == 1
    assert CatalogModel.objects.count() == PriceVersion.objects.count() == 3
    assert operator.apply(WHOLE) == [
        "~ model [M]claude: active no → yes",
        "~ model gpt-image-1: active no → yes",
        "~ channel main: enabled no → yes",
        "+ default images.generations: gpt-image-1",
    ]


def test_a_section_that_the_file_lacks_is_not_pruned(operator: Operator) -> None:
    operator.apply(WHOLE)
    names = ", ".join(f'{{name: "{name}"}}' for name in catalog.rows())
    assert operator.apply(f"models: [{names}]", "--prune") == ["nothing to change"]


def test_a_price_for_a_moment_to_come_is_written_once(operator: Operator) -> None:
    text = "models: [{name: m, price: {input: 1}}]"
    operator.apply(text)
    later = "models: [{name: m, price: {input: 2}, valid_from: 2099-01-01}]"
    assert operator.apply(later) == ["~ model m: price input 1 → input 2 from 2099-01-01T00:00:00+00:00"]
    assert operator.apply(later) == ["nothing to change"]
    assert operator.apply(text) == ["nothing to change"]
    assert "that very moment" in operator.refused(later.replace("input: 2", "input: 3"))


def test_a_stored_credential_is_not_sent_to_a_new_address(operator: Operator) -> None:
    operator.apply(WHOLE)
    moved = operator.dump().replace("9001", "9002")
    assert "the address changes" in operator.refused(moved)
    assert "the address changes" in operator.refused("channels: [{name: main, base_url: 'http://127.0.0.1:9/v1'}]")
    assert Channel.objects.get().base_url == "http://127.0.0.1:9001/v1"
    operator.apply(WHOLE.replace("9001", "9002"))
    assert services.opened(Credential.objects.get()) == SECRET


def test_public_addresses_are_not_marked_private_and_the_demo_is(operator: Operator) -> None:
    operator.apply(
        "channels:\n"
        "  - {name: a, protocol: openai, base_url: 'https://8.8.8.8/v1', models: [m]}\n"
        "  - {name: b, protocol: openai, base_url: 'internal:demo', models: [m]}\n"
        "  - {name: c, protocol: openai, base_url: 'http://ollama:11434', models: ['llama3:8b']}\n"
    )
    assert dict(Channel.objects.values_list("name", "private")) == {"a": False, "b": True, "c": True}


CHANNEL = "channels: [{{name: x, protocol: openai, base_url: 'https://8.8.8.8/v1', models: [m]{}}}]"
BAD = {
    "channels: [": "this is not YAML",
    "": "the file is empty",
    "[]": "a mapping",
    "chanels: []": "chanels: this is unknown; known are channels, models, defaults, groups",
    "channels: {}": "channels: a list is expected",
    "channels: [x]": "channels[0]: a mapping",
    "channels: [{protocol: openai}]": "channels[0]: a name is needed",
    "channels: [{name: x, name: y}]": "channels[0].name: this is given twice",
    "channels: [{name: x}]": "channels[0].protocol: a new channel needs this",
    "channels: [{name: x, protocol: suno}]": "the protocol 'suno' is not available yet",
    "channels: [{name: x, protocol: smtp}]": "'smtp' is unknown",
    "channels: [{name: x, base_url: 'ftp://8.8.8.8'}]": "channels[0].base_url: A base URL begins with http",
    "channels: [{name: x, base_url: 'https://a:b@8.8.8.8'}]": "no user and no password",
    "channels: [{name: x, base_url: 'https://8.8.8.8/v1?key=1'}]": "no query",
    "channels: [{name: x, base_url: 'http://[::1'}]": "not a URL",
    "channels: [{name: x, base_url: ~}]": "channels[0].base_url: the value is missing",
    CHANNEL.format(", api_keys: [env:NOT_SET_ANYWHERE]"): "the environment variable NOT_SET_ANYWHERE is not set",
    CHANNEL.format(", api_keys: ['env:A B']"): "followed by the name",
    CHANNEL.format(", api_keys: ['with space']"): "api_keys[0]: A credential has",
    CHANNEL.format(", api_keys: ['stored:…zzzz']"): "no credential that ends with …zzzz is stored",
    CHANNEL.format(", api_keys: sk-1"): "channels[0].api_keys: a list is expected",
    CHANNEL.format(", weight: heavy"): "channels[0].weight: 'heavy' is not a whole number",
    CHANNEL.format(", weight: -1"): "a weight is a whole number from 0",
    CHANNEL.format(", weight: 1.5"): "'1.5' is not a whole number",
    CHANNEL.format(", priority: []"): "channels[0].priority: a text is expected",
    CHANNEL.format(", on_hangup: sulk"): "'sulk' is unknown; known are cancel, drain",
    CHANNEL.format(", timeouts: {conect: 5}"): "channels[0].timeouts.conect: timeouts are connect",
    CHANNEL.format(", timeouts: {idle: 0}"): "at least 0.001",
    CHANNEL.format(", timeouts: {idle: 90000}"): "at most a day",
    CHANNEL.format(", enabled: maybe"): "neither true nor false",
    CHANNEL.format(", secret: !!python/object/apply:os.system [id]"): "secret: this is unknown",
    CHANNEL.format(", on_hangup: !env X"): "the tag '!env' means nothing here",
    "channels: [{name: x, models: [m, m]}]": "models[1]: this is given twice",
    "channels: [{name: x, models: {m: [a]}}]": "models.m: a text",
    "models: [{name: m}, {name: m}]": "models[1].name: there are two of the name 'm'",
    "models: [{name: m, kind: poem}]": "'poem' is unknown",
    "models: [{name: m, price: {input: 1e-3}}]": "models[0].price.input: '1e-3' is not an amount",
    "models: [{name: m, price: {input: 0.1234567891}}]": "nine decimals",
    "models: [{name: m, price: {input: -1}}]": "negative",
    "models: [{name: m, price: {imput: 1}}]": "unknown price 'imput'",
    "models: [{name: m, price: {}}]": "needs at least one price",
    "models: [{name: m, price: 0.15}]": "models[0].price: a mapping",
    "models: [{name: m, valid_from: 2099-01-01}]": "there is no price",
    "models: [{name: m, price: {input: 1}, valid_from: 2020-01-01}]": "in the past",
    "models: [{name: m, price: {input: 1}, valid_from: soon}]": "not a time such as",
    "models: [{name: m, context_window: 0}]": "above zero",
    "models: [{name: ' m'}]": "no space at either end",
    "defaults: {chat.completion: m}": "defaults.chat.completion: this is no endpoint",
    "defaults: {chat.completions: nothing}": "there is no model 'nothing'",
}


@pytest.mark.parametrize(("text", "said"), BAD.items(), ids=range(len(BAD)))
def test_what_is_wrong_is_said_and_nothing_is_written(operator: Operator, text: str, said: str) -> None:
    operator.apply("models: [{name: kept, price: {input: 1}}]")
    before = _rows()
    message = operator.refused(text)
    assert said in message
    assert message.endswith("Nothing was written.")
    assert _rows() == before


def test_all_problems_are_told_at_once_with_their_lines(operator: Operator) -> None:
    message = operator.refused("channels:\n- name: x\n  weight: a\n  colour: red\nmodels:\n- kind: chat\n")
    assert "line 3: channels[0].weight" in message
    assert "line 4: channels[0].colour" in message
    assert "line 6: models[0]: a name is needed" in message


def test_a_good_part_beside_a_bad_one_is_not_written_either(operator: Operator) -> None:
    good = WHOLE + "\n"
    assert "chat.completion" in operator.refused(good.replace("chat.completions: gpt", "chat.completion: gpt"))
    assert not Channel.objects.exists()
    assert not CatalogModel.objects.exists()


def test_a_literal_secret_that_is_refused_is_not_repeated(operator: Operator) -> None:
    assert "very secret" not in operator.refused(CHANNEL.format(", api_keys: ['very secret']"))


def test_a_missing_file_is_said(operator: Operator) -> None:
    with pytest.raises(CommandError, match="No such file"):
        call_command("apply", str(operator.path.with_name("nowhere.yaml")))
