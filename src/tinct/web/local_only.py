"""What guards the page of `tinct serve`: its own machine's browser only, no remote content, no huge request."""

import logging
from typing import TYPE_CHECKING

from tinct.errors import one_line

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LocalOnly"]

logger = logging.getLogger(__name__)

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # as gradio's page needs
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "frame-ancestors 'none'",
    )
)
"""Content security policy: the browser itself refuses whatever is not served from here."""

OVERHEAD = 65_536
"""Bytes of a request beyond the file it uploads."""


class LocalOnly:
    """ASGI middleware that turns away foreign hosts and requests that are too long, and sets headers."""

    def __init__(self, app: "ASGIApp", max_bytes: int) -> None:
        """Wrap `app`; no request may have a body of more than about `max_bytes`."""
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request."""
        from starlette.responses import PlainTextResponse

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        # a page elsewhere whose name is made to point here (DNS rebinding) still says its own name
        if headers.get(b"host", "").partition(":")[0] not in ("127.0.0.1", "localhost"):
            await PlainTextResponse("this page answers to 127.0.0.1 only", 421)(scope, receive, send)
            return
        if scope["method"] == "POST":
            # a page elsewhere may send forms here without asking; its browser says where they come from
            if headers.get(b"origin") not in (None, f"http://{headers[b'host']}"):
                await PlainTextResponse("this page takes nothing from other pages", 403)(scope, receive, send)
                return
            length = headers.get(b"content-length", "")
            if not length.isdigit():
                await PlainTextResponse("the request does not say its length", 411)(scope, receive, send)
                return
            if int(length) > self.max_bytes + OVERHEAD:
                megabytes = self.max_bytes / (1 << 20)
                await PlainTextResponse(f"over the limit of {megabytes:g} MB", 413)(scope, receive, send)
                return
        await self._answer(scope, receive, send)

    async def _answer(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Have the app answer a request, with headers; what fails costs a line, where the server prints a traceback."""
        from starlette.responses import PlainTextResponse

        begun = False

        async def guarded(message: "Message") -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            await self.app(scope, receive, guarded)
        except Exception as error:  # mostly of requests for what there is not
            failed = f"{scope['method']} {scope['path']!r:.100} failed: {one_line(error, 150)}"
            logger.warning("%s", failed)
            logger.debug("where it failed", exc_info=True)
            if not begun:
                await PlainTextResponse(failed, 500)(scope, receive, guarded)
