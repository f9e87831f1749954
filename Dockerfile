# Pisces in one image: `serve` by default, `worker`, `prepare`, `apply` and the other commands by name.
FROM python:3.11-slim

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    VAR_DIR=/var/lib/pisces

RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent pisces \
    && install --directory --owner pisces --group pisces --mode 0750 "$VAR_DIR"
WORKDIR /app

COPY requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement requirements.lock

COPY . .
# Compiles the translations beside their sources and collects the static files. The secrets and the database of this
# step are thrown away with it; `prepare` runs again, against the real database, before a start.
RUN SECRET_KEY=build-only-build-only-build-only-build-only \
    ENCRYPTION_KEYS=build-only-build-only-build-only-build-only \
    DATABASE_URL=sqlite:////tmp/build.sqlite3 \
    python manage.py prepare \
    && rm -f /tmp/build.sqlite3* \
    && chown -R pisces:pisces "$VAR_DIR"

USER pisces
VOLUME /var/lib/pisces
EXPOSE 8000
# A stop lets running calls end: SHUTDOWN_GRACE is 60 s, so stop with `--time 70`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['PORT'] + '/healthz', timeout=2)"]

ENTRYPOINT ["python", "manage.py"]
CMD ["serve"]
