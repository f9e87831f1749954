"""All settings, read from the environment once.

A file `var/pisces.env`, which `make run` writes, supplies what the environment does not, so that a command
beside a running server finds the same database and secrets. Every secret may also be given as `NAME_FILE`.
"""

from pathlib import Path
from urllib.parse import urlsplit

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.utils.translation import gettext_lazy as _

from portal.environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent

env = Environment()
VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))
env.read_env(VAR_DIR / "pisces.env")

DEBUG = env.bool("DEBUG", default=False)
PORT = env.int("PORT", default=8000)
BASE_URL = env.address("BASE_URL", default=f"http://127.0.0.1:{PORT}").rstrip("/")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = [BASE_URL]

# No default: an installation without its own secrets does not start.
SECRET_KEY = env.str("SECRET_KEY")
ENCRYPTION_KEYS = env.list("ENCRYPTION_KEYS")
if len(SECRET_KEY) < 32 or not ENCRYPTION_KEYS:
    raise ImproperlyConfigured("SECRET_KEY needs 32 characters or more and ENCRYPTION_KEYS at least one key")
# API keys are stored as HMACs under this pepper; it defaults to the secret key and must not change.
KEY_PEPPER = env.str("KEY_PEPPER", default="") or SECRET_KEY

CURRENCY = env.str("CURRENCY", default="USD")
CURRENCY_SIGN = {"USD": "$", "EUR": "€", "CNY": "¥", "GBP": "£", "JPY": "¥"}.get(CURRENCY, CURRENCY + " ")

# Paying in. A provider without all of its secrets is not offered, and its webhook is not there.
TOPUP_PRESETS = env.list("TOPUP_PRESETS", default=["10", "25", "50", "100"])
TOPUP_MIN = env.str("TOPUP_MIN", default="5")
TOPUP_MAX = env.str("TOPUP_MAX", default="2000")
STRIPE_SECRET_KEY = env.str("STRIPE_SECRET_KEY", default="").strip()
STRIPE_WEBHOOK_SECRETS = env.list("STRIPE_WEBHOOK_SECRETS", default=[])
STRIPE_CURRENCIES = env.list("STRIPE_CURRENCIES", default=[CURRENCY])
STRIPE_API_BASE = env.address("STRIPE_API_BASE", default="https://api.stripe.com").rstrip("/")
EPAY_URL = env.address("EPAY_URL", default="")
EPAY_PID = env.str("EPAY_PID", default="").strip()
EPAY_KEY = env.str("EPAY_KEY", default="").strip()
EPAY_TYPES = env.list("EPAY_TYPES", default=["alipay", "wxpay"])
EPAY_CURRENCY = env.str("EPAY_CURRENCY", default="CNY")
# Where a form may lead besides here: browsers follow no redirect of a form to any other place.
CHECKOUT_ORIGINS = [
    *(["https://checkout.stripe.com"] if STRIPE_SECRET_KEY else []),
    *(["{0.scheme}://{0.netloc}".format(urlsplit(EPAY_URL))] if EPAY_URL else []),
    *env.list("CHECKOUT_ORIGINS", default=[]),
]
MAX_BODY_WEBHOOK = env.int("MAX_BODY_WEBHOOK", default=512 * 1024)

# What one administrator may give or take within a day, in nano-units; what goes beyond waits for a second one.
SECOND_ADMIN_ABOVE = env.amount("SECOND_ADMIN_ABOVE", default="1000")
SIGNUP_OPEN = env.bool("SIGNUP_OPEN", default=True)
DEMO_PROVIDER = env.bool("DEMO_PROVIDER", default=False)
# How many proxies in front of the gateway append to X-Forwarded-For.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)

# Relay limits, in bytes and seconds.
MAX_BODY_JSON = env.int("MAX_BODY_JSON", default=32 * 1024 * 1024)
MAX_ANSWER = env.int("MAX_ANSWER", default=64 * 1024 * 1024)
HEAD_TIMEOUT = env.float("HEAD_TIMEOUT", default=15.0)
BODY_TIMEOUT = env.float("BODY_TIMEOUT", default=60.0)
HOLD_LEASE = env.float("HOLD_LEASE", default=45.0)
DRAIN_ON_HANGUP = env.float("DRAIN_ON_HANGUP", default=60.0)
MAX_STORED_ANSWER = env.int("MAX_STORED_ANSWER", default=8 * 1024 * 1024)
STORED_RESPONSE_DAYS = env.int("STORED_RESPONSE_DAYS", default=30)
# Calls and their attempts that began more than so many whole months ago are deleted; 0 keeps all. Never the books.
CALL_LOG_MONTHS = env.int("CALL_LOG_MONTHS", default=0)
# Pictures and files by URL, for upstreams that fetch none; FETCH_FROM: host:port of servers that may be private.
FETCH_URLS = env.bool("FETCH_URLS", default=True)
FETCH_FROM = env.list("FETCH_FROM", default=[])
SEND_STALL = env.float("SEND_STALL", default=60.0)
# Where a test wants this process to die (`billing.failpoints`); refused unless DEBUG or the second allows it.
FAILPOINT = env.str("FAILPOINT", default="")
FAILPOINTS_ALLOWED = env.bool("FAILPOINTS_ALLOWED", default=False)
# Between two looks for disabled credentials that should be asked again, in seconds.
PROBE_EVERY = env.float("PROBE_EVERY", default=30.0)
SHUTDOWN_GRACE = env.int("SHUTDOWN_GRACE", default=60)

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.forms",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "rest_framework",
    "drf_spectacular",
    "csp",
    "portal",
    "relay",
    "keys",
    "billing",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "portal.middleware.AdminPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "portal.middleware.NulMiddleware",
]

ROOT_URLCONF = "portal.urls"
ASGI_APPLICATION = "portal.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "django.template.context_processors.i18n",
                "portal.context.portal",
            ],
            "builtins": ["portal.templatetags.pisces"],
        },
    }
]
FORM_RENDERER = "portal.forms.FieldRenderer"

# A server that is away is noticed in seconds; a client that vanished in mid-transaction keeps no locks. To compile a
# report's statement takes many times what running it does.
POSTGRES_OPTIONS = {
    "connect_timeout": 2,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "options": "-c idle_in_transaction_session_timeout=60s -c jit=off",
}
# Database: SQLite under var/ unless told otherwise; the ledger works the same on both.
DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'pisces.sqlite3'}")}
_database = DATABASES["default"]
if _database.get("ENGINE") not in ("django.db.backends.sqlite3", "django.db.backends.postgresql"):
    raise ImproperlyConfigured("DATABASE_URL must begin with postgres:// or sqlite://")
_database["CONN_MAX_AGE"] = 600
if _database["ENGINE"] == "django.db.backends.sqlite3":
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
else:
    _database["CONN_HEALTH_CHECKS"] = True
    _database["OPTIONS"] = {**POSTGRES_OPTIONS, **_database.get("OPTIONS", {})}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.str("REDIS_URL", default="")

# By it sign-ins, second factors and calls of the management API are limited. Of more entries than there may be those
# go that were not used for longest: with Django's 300 anybody's tries would be forgotten over other people's.
_LOCAL = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
_TOGETHER = {"BACKEND": "portal.together.Together", "LOCATION": REDIS_URL}
CACHES = {"default": {**(_TOGETHER if REDIS_URL else _LOCAL), "OPTIONS": {"MAX_ENTRIES": 50_000}}}

# Rate limits of teams that have none of their own: requests and tokens a minute, calls at once; 0 for none.
DEFAULT_RPM = env.int("DEFAULT_RPM", default=0)
DEFAULT_TPM = env.int("DEFAULT_TPM", default=0)
DEFAULT_PARALLEL = env.int("DEFAULT_PARALLEL", default=0)

# Invoices: who they are from (lines of the address are separated by "|"), when they are due, the tax that is in them.
INVOICE_SELLER_NAME = env.str("INVOICE_SELLER_NAME", default="Pisces")
INVOICE_SELLER_ADDRESS = env.str("INVOICE_SELLER_ADDRESS", default="").replace("|", "\n")
INVOICE_SELLER_TAX_ID = env.str("INVOICE_SELLER_TAX_ID", default="")
INVOICE_SELLER_EMAIL = env.str("INVOICE_SELLER_EMAIL", default="")
INVOICE_TERM_DAYS = env.int("INVOICE_TERM_DAYS", default=14)
INVOICE_TAX_NAME = env.str("INVOICE_TAX_NAME", default="")
INVOICE_TAX_RATE = env.str("INVOICE_TAX_RATE", default="0")  # per cent
# A font for invoices (TrueType or a collection) that has the characters of names; empty to look for one.
INVOICE_FONT = env.str("INVOICE_FONT", default="")

# Notices: the balance (in the currency) below which who has not chosen one is told, and servers (host:port) of
# webhooks that may have a private address or no TLS.
LOW_BALANCE = env.str("LOW_BALANCE", default="1")
WEBHOOKS_TO = env.list("WEBHOOKS_TO", default=[])

# Sign-in.
AUTH_USER_MODEL = "portal.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "portal.accounts.AccountAdapter"
ACCOUNT_FORMS = {"add_email": "portal.account_forms.AddEmailForm"}
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_UNIQUE_EMAIL = True
ACCOUNT_EMAIL_VERIFICATION = env.str("EMAIL_VERIFICATION", default="optional")
if ACCOUNT_EMAIL_VERIFICATION not in ("mandatory", "optional", "none"):
    raise ImproperlyConfigured("EMAIL_VERIFICATION must be mandatory, optional or none")
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_EMAIL_SUBJECT_PREFIX = "Pisces: "
# Sign-in is limited by address: without this all clients behind our proxy would share one limit.
ALLAUTH_TRUSTED_PROXY_COUNT = TRUSTED_PROXIES
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
vars().update(env.email_url("EMAIL_URL", default="consolemail://"))
EMAIL_TIMEOUT = 15  # seconds for each step; without it a mail server that says nothing is waited for without end
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="pisces@localhost")

SECURE = BASE_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SESSION_COOKIE_AGE = 60 * 60 * 24 * 14
SECURE_HSTS_SECONDS = 60 * 60 * 24 * 365 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE
SECURE_SSL_REDIRECT = SECURE and env.bool("SSL_REDIRECT", default=True)
SECURE_REDIRECT_EXEMPT = ["^readyz$"]  # probes ask over plain HTTP
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF, *CHECKOUT_ORIGINS],
    }
}

# Language and time. The ledger and every page speak UTC.
LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Chinese"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder", "portal.finders.UsedFinder"]
WHITENOISE_KEEP_ONLY_HASHED_FILES = True  # pages name no other, and each would be compressed twice
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "DEFAULT_SCHEMA_CLASS": "portal.api.schema.Described",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Pisces management API",
    "VERSION": "1",
    "DESCRIPTION": "Keys, money and usage of a team. Call it with a management key, or from a signed-in session.",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "SCHEMA_PATH_PREFIX_INSERT": "",
    "PREPROCESSING_HOOKS": ["portal.api.schema.only_ours"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "portal.api.schema.with_errors",
    ],
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "KeyState": "keys.models.KeyState",
        "CallState": "relay.models.CallState",
        "PlanState": "billing.models.PlanState",
        "PlanKind": "billing.models.PlanKind",
        "TransferKind": "billing.models.TransferKind",
        "PaymentState": "billing.payments.models.PaymentState",
        "InvoiceState": "billing.invoice_models.PaymentState",
        "DeliveryState": "portal.notice_models.DeliveryState",
        "NoticeKind": "portal.notice_models.NoticeKind",
        "DocumentKind": "billing.invoice_models.DocumentKind",
        "LineKind": "billing.invoice_models.LineKind",
        "Window": "billing.models.Window",
    },
}

UNFOLD = {
    "SITE_TITLE": "Pisces",
    "SITE_HEADER": "Pisces",
    "SITE_URL": "/",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "billing.books_admin.banner",
    "BORDER_RADIUS": "8px",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("logo.svg")}],
    # The portal's one accent (static/tokens.css), from light to dark.
    "COLORS": {
        "primary": {
            "50": "#eef5fc",
            "100": "#d9e8f8",
            "200": "#b5d2f0",
            "300": "#85b5e5",
            "400": "#4f92d6",
            "500": "#2b75c2",
            "600": "#1d66b0",
            "700": "#17568f",
            "800": "#164973",
            "900": "#143d5f",
            "950": "#0d273f",
        }
    },
}

LOGGING_CONFIG = None
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO").upper()
LOG_JSON = env.bool("LOG_JSON", default=not DEBUG)
