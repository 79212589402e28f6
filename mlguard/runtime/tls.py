"""Connections over TLS, in a separate module because Triton's Python lacks ssl."""

import http.client
import ssl
from pathlib import Path
from typing import Any

from mlguard.errors import OptionError, RemoteError


class TlsConnection(http.client.HTTPSConnection):
    """A connection whose socket can be closed even during the TLS handshake.

    Args:
        host: The host, whose name the certificate must have.
        port: The port; None for 443.
        timeout: The limit of each step, in seconds.
        context: The trusted certificates.
    """

    def __init__(
        self, host: str, port: int | None, *, timeout: float, context: ssl.SSLContext
    ) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._tls = context

    def connect(self) -> None:
        """Connect, and check the certificate against the host's name.

        Raises:
            RemoteError: The certificate is another host's, or is not trusted.
        """
        http.client.HTTPConnection.connect(self)
        sock = self._tls.wrap_socket(
            self.sock, server_hostname=self.host, do_handshake_on_connect=False
        )
        self.sock: Any = sock
        try:
            sock.do_handshake()
        except ssl.SSLCertVerificationError as error:
            raise RemoteError(
                f"{self.host}: its certificate is not trusted: {error.verify_message}",
                hint="`ca_file` names the authority to trust",
            ) from None


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """Trust the certificates of a file, or the system's.

    Raises:
        OptionError: The file cannot be read, or holds none.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        said = getattr(error, "strerror", None) or "no certificates"
        raise OptionError(
            "the endpoint", [f"ca_file: cannot read {ca_file}: {said}"]
        ) from None
