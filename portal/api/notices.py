"""What a person is told and where: settings, notices with their deliveries, webhooks. It is called from a session."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import Throttled, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from portal.api import errors, pages
from portal.api.access import PersonView
from portal.api.fields import Amount
from portal.models import Delivery, DeliveryState, Notice, NoticeKind, User, Webhook
from portal.notices import delivery, telling, words
from relay.channels import egress

TELLABLE = [(kind.value, kind.label) for kind in NoticeKind if kind != NoticeKind.TEST]


class SettingsShape(serializers.Serializer[Any]):
    """What the person is told. A threshold of 0 is never, null is the installation's own."""

    kinds = serializers.ListField(child=serializers.ChoiceField(choices=TELLABLE))
    threshold = Amount(allow_null=True, help_text="A balance below it is low.")
    by_email = serializers.BooleanField()
    language = serializers.ChoiceField(choices=settings.LANGUAGES, help_text="Of e-mails.")


class Settings(PersonView):
    @extend_schema(operation_id="notice_settings_read", responses=SettingsShape, summary="What you are told")
    def get(self, request: Request) -> Response:
        return Response(SettingsShape(_chosen(self.person)).data)

    @extend_schema(
        operation_id="notice_settings_change",
        request=SettingsShape(partial=True),
        responses=SettingsShape,
        summary="Change what you are told",
    )
    def patch(self, request: Request) -> Response:
        user = self.person
        asked = SettingsShape(data=request.data, partial=True)
        asked.is_valid(raise_exception=True)
        if unknown := set(asked.validated_data.get("kinds", ())) - set(telling.offered(user)):
            raise ValidationError({"kinds": [_("Only administrators are told of %(kind)s.") % {"kind": min(unknown)}]})
        telling.choose(user=user, **{**_chosen(user), **asked.validated_data})
        return Response(SettingsShape(_chosen(user)).data)


def _chosen(user: User) -> dict[str, Any]:
    wishes = telling.wishes(user)
    return {
        "kinds": telling.chosen(user),
        "threshold": wishes.threshold,
        "by_email": wishes.by_email,
        "language": telling.language_of(user),
    }


class DeliveryShape(serializers.ModelSerializer[Delivery]):
    """A notice on its way: to `webhook`, or by e-mail where that is null. `status` and `answer` are the receiver's."""

    class Meta:
        model = Delivery
        fields = ("id", "webhook", "state", "attempt", "began_at", "next_at", "status", "answer", "ended_at")


class NoticeShape(serializers.ModelSerializer[Notice]):
    """What was told, and how it went out."""

    title = serializers.SerializerMethodField()
    text = serializers.SerializerMethodField()
    deliveries = DeliveryShape(many=True)

    class Meta:
        model = Notice
        fields = ("id", "kind", "subject", "created_at", "title", "text", "deliveries")

    def get_title(self, notice: Notice) -> str:
        return words.say(notice).title

    def get_text(self, notice: Notice) -> str:
        return words.say(notice).sentence


class Notices(PersonView):
    @extend_schema(
        operation_id="notices_list",
        parameters=pages.PARAMETERS,
        responses=pages.of(NoticeShape),
        summary="What you were told, newest first, with its deliveries",
    )
    def get(self, request: Request) -> Response:
        rows = Notice.objects.filter(user=self.person).prefetch_related("deliveries")
        return pages.answer(self, rows, NoticeShape, order=("-created_at", "-id"))


class TestEmail(PersonView):
    @extend_schema(operation_id="notices_test", request=None, responses=DeliveryShape, summary="Send yourself a test")
    def post(self, request: Request) -> Response:
        with _rationed():
            return Response(DeliveryShape(delivery.test(self.person, None)).data)


@contextmanager
def _rationed() -> Iterator[None]:
    try:
        yield
    except telling.TooManyLetters as error:
        raise Throttled(wait=error.seconds, detail=str(words.TOO_MANY_LETTERS)) from error


# ---- webhooks -------------------------------------------------------------------------------------------------------


class WebhookShape(serializers.ModelSerializer[Webhook]):
    """An address that notices are posted to. One that has failed for a day is disabled by itself."""

    class Meta:
        model = Webhook
        fields = ("id", "url", "created_at", "failing_since", "disabled_at", "disabled_reason")


class MadeWebhook(WebhookShape):
    secret = serializers.CharField(help_text="What notices are signed with. Shown this once.")

    class Meta(WebhookShape.Meta):
        fields = (*WebhookShape.Meta.fields, "secret")  # type: ignore[assignment]


class NewWebhook(serializers.Serializer[Any]):
    url = serializers.CharField(max_length=500, help_text="A public address with https.")


class Webhooks(PersonView):
    @extend_schema(
        operation_id="webhooks_list",
        parameters=pages.PARAMETERS,
        responses=pages.of(WebhookShape),
        summary="Your webhooks, newest first",
    )
    def get(self, request: Request) -> Response:
        return pages.answer(self, Webhook.objects.filter(user=self.person), WebhookShape)

    @extend_schema(
        operation_id="webhooks_add", request=NewWebhook, responses={201: MadeWebhook}, summary="Add a webhook"
    )
    def post(self, request: Request) -> Response:
        asked = NewWebhook(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            webhook, secret = telling.add_webhook(user=self.person, url=asked.validated_data["url"])
        except egress.Undeliverable as error:
            told = _("Notices cannot be posted there: %(why)s.") % {"why": str(error)}
            raise ValidationError({"url": [told]}) from error
        except telling.TooManyWebhooks as error:
            raise errors.Conflict(_("There are as many webhooks as there may be.")) from error
        answer = Response({**WebhookShape(webhook).data, "secret": secret}, status=status.HTTP_201_CREATED)
        answer["Cache-Control"] = "no-store"
        return answer


class OneWebhook(PersonView):
    def _webhook(self, pk: int) -> Webhook:
        return get_object_or_404(Webhook, pk=pk, user=self.person)

    @extend_schema(operation_id="webhooks_read", responses=WebhookShape, summary="One webhook")
    def get(self, request: Request, pk: int) -> Response:
        return Response(WebhookShape(self._webhook(pk)).data)

    @extend_schema(operation_id="webhooks_remove", responses={204: None}, summary="Remove a webhook")
    def delete(self, request: Request, pk: int) -> Response:
        telling.remove_webhook(self._webhook(pk))
        return Response(status=status.HTTP_204_NO_CONTENT)


class EnableWebhook(OneWebhook):
    http_method_names = ("post",)

    @extend_schema(
        operation_id="webhooks_enable", request=None, responses=WebhookShape, summary="Use one again that was disabled"
    )
    def post(self, request: Request, pk: int) -> Response:
        webhook = self._webhook(pk)
        telling.enable_webhook(webhook)
        webhook.refresh_from_db()
        return Response(WebhookShape(webhook).data)


class TestWebhook(OneWebhook):
    http_method_names = ("post",)

    @extend_schema(
        operation_id="webhooks_test", request=None, responses=DeliveryShape, summary="Post a test to a webhook"
    )
    def post(self, request: Request, pk: int) -> Response:
        return Response(DeliveryShape(delivery.test(self.person, self._webhook(pk))).data)


class DeliveryFilter(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=DeliveryState.choices, required=False)


class Deliveries(PersonView):
    @extend_schema(
        operation_id="webhooks_deliveries_list",
        parameters=[*pages.PARAMETERS, DeliveryFilter],
        responses=pages.of(DeliveryShape),
        summary="What was posted to a webhook, newest first",
    )
    def get(self, request: Request, pk: int) -> Response:
        asked = DeliveryFilter(data=request.query_params)
        asked.is_valid(raise_exception=True)
        webhook = get_object_or_404(Webhook, pk=pk, user=self.person)
        return pages.answer(self, webhook.deliveries.filter(**asked.validated_data), DeliveryShape)


class Redeliver(PersonView):
    @extend_schema(
        operation_id="deliveries_again",
        request=None,
        responses={200: DeliveryShape, 409: errors.DetailShape},
        summary="Send a notice again",
    )
    def post(self, request: Request, pk: int) -> Response:
        row = get_object_or_404(Delivery, pk=pk, notice__user=self.person)
        with _rationed():
            if not telling.redeliver(row):
                raise errors.Conflict(_("The notice is still on its way."))
        row.refresh_from_db()
        return Response(DeliveryShape(row).data)
