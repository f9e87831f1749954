"""The provider that a run is measured against: nginx with static bodies where it is installed, else our own.

The first part of a request's path says what it gets: `whole` an answer, `stream` a stream of EVENTS events at once,
`paced-100-50` a hundred tokens, one each 50 ms; `claude` and `claude-100-50` the same on Anthropic's wire. nginx cannot
pace tokens, so these are always our own's.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench import processes, upstream
from tests.kit.ports import free_port

# A connection may carry as many calls as anyone cares to make, as with our own upstream.
_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/log error;
{user}
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=10;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {folder}/bodies;
        # A file is not for POST, nginx says; asked again inside, it is a GET, and the request's body is dropped.
        error_page 405 =200 $uri;
        location /whole/ {{ default_type application/json; }}
        location /stream/ {{ default_type text/event-stream; }}
        location /claude/ {{ default_type application/json; }}
    }}
}}
"""


class Provider(NamedTuple):
    name: str
    port: int


def program() -> str | None:
    """nginx, which is often where only an administrator's search path leads."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def nginx(program: str, folder: Path) -> Iterator[Provider]:
    """A master with one worker; its prefix, log and bodies are in `folder`, which must be empty."""
    port = free_port()
    for path, body in (
        ("whole/v1/chat/completions", upstream.ANSWER),
        ("stream/v1/chat/completions", upstream.STREAM),
        ("claude/v1/messages", upstream.OTHER_ANSWER),
    ):
        file = folder / "bodies" / path
        file.parent.mkdir(parents=True)
        file.write_bytes(body)
    # Started by root, the worker would otherwise be nobody, who may not read the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, port=port, user=user))
    command = [program, "-p", str(folder), "-c", str(configuration)]
    with processes.listening(command, port=port, log=folder / "log"):
        yield Provider(f"nginx {_version(program)}", port)


@contextmanager
def own(folder: Path) -> Iterator[Provider]:
    port = free_port()
    command = processes.python("tests.bench.upstream", str(port))
    with processes.listening(command, port=port, log=folder / "upstream.log"):
        yield Provider("the project's own upstream", port)


def _version(program: str) -> str:
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/(\S+)", said)
    return found[1] if found else ""
