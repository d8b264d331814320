"""nginx with its usual settings as the server of static files beside which figures are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers import free_port, running
from node.config import Settings


@contextmanager
def nginx(www: Path, folder: Path, secure: Settings | None = None) -> Iterator[str]:
    """nginx serving ``www``; its URL. With the certificate of a ``secure`` node by TLS."""
    folder.mkdir()
    port = free_port()
    listening, scheme = f"listen 127.0.0.1:{port}", "http"
    if secure is not None:
        scheme = "https"
        listening += (
            f" ssl; ssl_certificate {secure.tls.certificate}; ssl_certificate_key {secure.tls.key};"
            " ssl_protocols TLSv1.2 TLSv1.3"
        )
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 2; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"user root; events {{}}\nhttp {{ access_log off; sendfile on; tcp_nopush on;\n"
        f"client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n"
        f"scgi_temp_path {folder}/scgi;\n"
        f"server {{ {listening}; root {www}; }} }}\n"
    )
    with running(["nginx", "-c", str(folder / "nginx.conf")], folder / "log", port):
        yield f"{scheme}://127.0.0.1:{port}"
