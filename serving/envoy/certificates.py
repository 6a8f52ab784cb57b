"""Certificates for Envoy, from files that may change at any time.

Envoy reads a file again when another is moved into its place, not when it is written to, and takes certificate and key
one by one. So they are looked at here, tried together, and handed over in files of our own.
"""

import asyncio
import base64
import json
import logging
import ssl
from pathlib import Path
from typing import Any

from serving.settings import ListenerSettings

CERTIFICATE, CLIENT_CA = "certificate", "client_ca"
"""The names of what a TLS listener reads from a folder, and reads again when it changes."""

LOOK_S = 1.0
"""How often the files are looked at."""

log = logging.getLogger(__name__)


def write_certificates(settings: ListenerSettings, folder: Path) -> None:
    """Hand over what the files hold now; or raise OSError, which says which file cannot be used and why."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return
    certificate, key = _read(settings.tls_certificate), _read(settings.tls_key)
    authorities = _read(settings.tls_client_ca) if settings.tls_client_ca else b""
    _try(settings)
    tls = {"tls_certificate": {"certificate_chain": _inline(certificate), "private_key": _inline(key)}}
    _write(folder / f"{CERTIFICATE}.json", CERTIFICATE, tls)
    if authorities:
        _write(folder / f"{CLIENT_CA}.json", CLIENT_CA, {"validation_context": {"trusted_ca": _inline(authorities)}})


async def keep_certificates(settings: ListenerSettings, folder: Path) -> None:
    """Hand them over whenever they change, for ever; what cannot be used is told of once, and what was there stays."""
    seen, fault = None, ""  # they may have changed since Envoy was started with them
    while settings.tls_certificate is not None:
        await asyncio.sleep(LOOK_S)
        content = _content(settings)
        if content == seen:
            continue
        try:
            write_certificates(settings, folder)
        except OSError as error:
            if str(error) != fault:
                log.error("the certificates that are there now are not used, those before are: %s", error)  # noqa: TRY400
            fault = str(error)  # perhaps only one of two files is there yet: look again
        else:
            if seen is not None:
                log.info("new certificates are used now")
            seen, fault = content, ""


def _content(settings: ListenerSettings) -> list[bytes]:
    content = []
    for path in (settings.tls_certificate, settings.tls_key, settings.tls_client_ca):
        try:
            content.append(path.read_bytes() if path else b"")
        except OSError:
            content.append(b"")
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror}") from error


def _try(settings: ListenerSettings) -> None:
    """Whether they belong together, and can be read at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(str(settings.tls_certificate), str(settings.tls_key), password="")  # never ask for one
    except (OSError, ValueError) as error:
        raise OSError(
            f"{settings.tls_certificate} and {settings.tls_key} are no certificate and its key, in PEM: {error}"
        ) from error
    if settings.tls_client_ca:
        try:
            context.load_verify_locations(str(settings.tls_client_ca))
        except (OSError, ValueError) as error:
            raise OSError(f"{settings.tls_client_ca} holds no certificates in PEM: {error}") from error


def _inline(content: bytes) -> dict[str, str]:
    return {"inline_bytes": base64.b64encode(content).decode()}


def _write(path: Path, name: str, secret: dict[str, Any]) -> None:
    """Move a whole file into place: Envoy looks for that."""
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    content = json.dumps({"resources": [{"@type": kind, "name": name, **secret}]})
    new = path.with_suffix(".new")
    new.touch(0o600)
    new.write_text(content)
    new.replace(path)
