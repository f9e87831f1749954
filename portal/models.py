"""Who uses Pisces: users, and the teams that own keys and wallets."""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from keys.models import rate_field, rates_positive


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **extra: Any) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(AbstractUser):
    """A person, known by an e-mail address."""

    username = None  # type: ignore[assignment]
    email = models.EmailField(_("e-mail address"), unique=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_once")]

    def __str__(self) -> str:
        return self.email


class Team(models.Model):
    """The owner of keys and a wallet. Every user has a personal one.

    `rpm`, `tpm` and `parallel` are set by administrators; where they are null, the settings' defaults hold.
    """

    name = models.CharField(_("name"), max_length=100)
    personal_of = models.OneToOneField(
        User, models.PROTECT, null=True, blank=True, related_name="personal_team", verbose_name=_("personal team of")
    )
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    rpm = rate_field(_("requests a minute"))
    tpm = rate_field(_("tokens a minute"))
    parallel = rate_field(_("calls at once"))
    members = models.ManyToManyField(User, through="Membership", related_name="teams")
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("team")
        verbose_name_plural = _("teams")
        constraints = [rates_positive("team_rates_positive")]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    OWNER = "owner", _("owner")
    MEMBER = "member", _("member")


class Membership(models.Model):
    team = models.ForeignKey(Team, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(_("role"), max_length=8, choices=Role, default=Role.MEMBER)

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        constraints = [
            models.UniqueConstraint(name="membership_once", fields=["team", "user"]),
            models.CheckConstraint(name="membership_role_known", condition=Q(role__in=["owner", "member"])),
        ]

    def __str__(self) -> str:
        return f"{self.user} ∈ {self.team}"


# The tables of notices stand in a file of their own; Django looks for an app's tables here.
from portal.notice_models import (  # noqa: E402, F401
    BalanceWatch,
    Delivery,
    DeliveryState,
    Notice,
    NoticeKind,
    NoticeSettings,
    Webhook,
)
